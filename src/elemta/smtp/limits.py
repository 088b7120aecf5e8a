"""What a server machine allows its client."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and strictness of one listener; sizes are octets.

    Attributes:
        max_message_size: Of the content as it is kept; advertised (RFC 1870).
        max_line: Of a line of content, CRLF included, a dot doubled for DATA not counted.
            RFC 5321 §4.5.3.1.6 asks for 1000, mail in use is not that tidy.
        max_command: Of a command line, CRLF included (RFC 5321 §4.5.3.1.4); what an extension
            adds to a command is allowed on top.
        max_buffer: Of a command line that does not end: more closes the connection.
        bare_newlines: What becomes of CR and LF apart in content: it is refused and the
            connection closed, or each becomes CRLF. Neither ever ends a message.
        strict_sync: Input behind a command that ends a pipelined group (RFC 2920 §3.1), sent
            before our answer to it, ends the connection.
        max_drain: How much of refused content is read to reach its end before the connection
            is closed instead; 0 stands for twice `max_message_size`.
    """

    max_message_size: int = 25_000_000
    max_line: int = 8192
    max_command: int = 512
    max_buffer: int = 65536
    bare_newlines: Literal["reject", "normalise"] = "reject"
    strict_sync: bool = True
    max_drain: int = 0

    @property
    def drain_limit(self) -> int:
        """The value of `max_drain` that holds."""
        return self.max_drain or 2 * self.max_message_size
