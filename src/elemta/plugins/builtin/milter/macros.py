"""What milters are told beside the commands: the macros of Sendmail, as far as we know them."""

from collections.abc import Sequence
from typing import NamedTuple

from elemta.plugins import Address, SessionInfo
from elemta.plugins.builtin._elsewhere import key_bits, names_of

Values = Sequence[tuple[str, str]]


class Ourselves(NamedTuple):
    """What is the same for all clients.

    Attributes:
        hostname: Of the server.
        daemon_name: Of the listener; "" for its kind.
    """

    hostname: str
    daemon_name: str


def client_name(session: SessionInfo) -> str:
    """The name of the client where one leads back to its address, else the address in brackets."""
    _, name = names_of(session)
    return name or (f"[{session.client_ip}]" if session.client_ip else "localhost")


def of_connect(us: Ourselves, session: SessionInfo) -> Values:
    """About a client that has come."""
    address, _, port = session.server.rpartition(":")
    name = client_name(session)
    known = name if not name.startswith("[") else "unknown"
    shown = f"{name} [{session.client_ip}]" if known != "unknown" else name
    return (
        ("j", us.hostname),
        ("_", shown),
        ("v", "Elemta"),
        ("daemon_name", us.daemon_name or session.listener.upper()),
        ("daemon_addr", address.removeprefix("[").removesuffix("]")),
        ("daemon_port", port),
        ("if_addr", address.removeprefix("[").removesuffix("]")),
        ("if_name", us.hostname),
        ("client_addr", session.client_ip),
        ("client_name", known),
        ("client_port", str(session.client_port or "")),
        ("client_ptr", known),
        ("client_resolve", "OK" if known != "unknown" else "FAIL"),
    )


def of_helo(session: SessionInfo) -> Values:
    """About its TLS."""
    cipher = session.tls_cipher
    return (
        ("tls_version", session.tls_version),
        ("cipher", cipher),
        ("cipher_bits", key_bits(cipher)),
    )


def of_mail(session: SessionInfo, sender: Address | None, mechanism: str) -> Values:
    """About the sender, and who has logged in."""
    host = sender.domain if sender is not None else ""
    return (
        ("auth_authen", session.username),
        ("auth_type", mechanism if session.username else ""),
        ("mail_mailer", "esmtp"),
        ("mail_host", host),
        ("mail_addr", str(sender or "")),
        *of_helo(session),
        ("client_addr", session.client_ip),
        ("client_name", client_name(session)),
    )


def of_rcpt(recipient: Address) -> Values:
    """About a recipient."""
    return (
        ("rcpt_mailer", "esmtp"),
        ("rcpt_host", recipient.domain),
        ("rcpt_addr", str(recipient)),
    )


def of_content(queue_id: str, recipients: int) -> Values:
    """About the message."""
    return (("i", queue_id), ("nrcpts", str(recipients)))
