"""Delivery status notifications as programs read them: RFC 3464, and flufl.bounce."""

import email
from dataclasses import dataclass, field
from email.message import Message

from flufl.bounce import all_failures


@dataclass(frozen=True)
class Report:
    """A notification, taken apart as RFC 3464 has it."""

    raw: bytes = field(repr=False)

    @property
    def message(self) -> Message:
        return email.message_from_bytes(self.raw)

    @property
    def groups(self) -> list[Message]:
        status = self.message.get_payload()[1]
        assert status.get_content_type() == "message/delivery-status"
        return status.get_payload()

    def fates(self) -> list[tuple[str, str, str, str, str]]:
        """Of each recipient: address, action, status, who said so, what."""
        names = ("Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code")
        return [
            tuple(" ".join(str(group[name]).split()) for name in names) for group in self.groups[1:]
        ]

    def returned(self) -> bytes:
        return self.raw.partition(b"\r\nContent-Type: text/rfc822-headers\r\n")[2]

    def failed(self) -> set[str]:
        """Who failed for good, as flufl.bounce sees it."""
        delayed, failed = all_failures(self.message)
        assert not delayed
        return {address.decode() for address in failed}

    def delayed(self) -> set[str]:
        delayed, failed = all_failures(self.message)
        assert not failed
        return {address.decode() for address in delayed}
