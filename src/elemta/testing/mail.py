"""Mail that a plugin under test submits: it is kept, and goes nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from elemta.mail.errors import PluginError


@dataclass(frozen=True, slots=True)
class Submitted:
    """A message: its envelope, with "" for the null sender, and its content."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class MemoryMail:
    """`elemta.plugins.tools.Mail` that takes everything, unless a test says otherwise.

    Attributes:
        messages: What was submitted.
        refusal: Why nothing is taken; "" while all is.
    """

    def __init__(self) -> None:
        self.messages: list[Submitted] = []
        self.refusal = ""

    async def submit(self, sender: str, recipients: Sequence[str], content: bytes, /) -> None:
        if self.refusal:
            raise PluginError(self.refusal)
        self.messages.append(Submitted(sender, tuple(recipients), content))
