"""Who is at the other end of a session, as far as policy cares."""

from dataclasses import dataclass

from elemta.server.inspection import Panel
from elemta.server.submission import Submitter


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends.

    Attributes:
        is_trusted: It may send to anyone: for where it is, or who.
        protocol: "ESMTP" and the like, with "S" under TLS and "A" after AUTH (RFC 3848).
        encryption: What the trace header says of TLS, "" in clear.
        login: The account it has logged in to, or "".
        panel: The plugins of this session; None where there are none.
        submitter: Who submits mail; None where mail only passes through.
        is_lmtp: It gets an answer for each recipient.
    """

    session_id: str
    ip: str
    is_trusted: bool
    helo: str
    protocol: str
    encryption: str = ""
    login: str = ""
    panel: Panel | None = None
    submitter: Submitter | None = None
    is_lmtp: bool = False
