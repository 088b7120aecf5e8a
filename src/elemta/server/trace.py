"""The trace header that every message gets on arrival (RFC 5321 §4.4, RFC 3848, RFC 6531)."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from elemta.mail.address import Address
from elemta.mail.ids import QueueId

_NOT_HELO = re.compile(r"[^A-Za-z0-9.:_\[\]-]")


@lru_cache(maxsize=1024)
def session_part(
    helo: str,
    client_ip: str,
    hostname: str,
    protocol: str,
    encryption: str = "",
    hidden_as: str = "",
) -> str:
    """The part of the Received field that all messages of a session share.

    Args:
        helo: What the client called itself; letters that no name has become "_".
        client_ip: Its address, or "" for a unix socket.
        hostname: This server.
        protocol: "SMTP", "ESMTP", "ESMTPSA", "UTF8LMTP"... (RFC 3848, RFC 6531 §4.3).
        encryption: What to say of TLS, "" in clear.
        hidden_as: What to say instead of the client's name and address; "" to say those.
    """
    if hidden_as:
        helo, client_ip = hostname, ""
    name = _NOT_HELO.sub("_", helo)[:255] or "unknown"
    literal = f"IPv6:{client_ip}" if ":" in client_ip else client_ip
    source = f"{name} ([{literal}])" if client_ip else f"{name} ({hidden_as or 'local'})"
    words = f"\r\n\t({encryption})" if encryption else ""
    return f"Received: from {source}{words}\r\n\tby {hostname} (Elemta) with {protocol} id "


def received_field(session: str, queue_id: QueueId, recipient: Address | None, at: float) -> bytes:
    """The whole Received field, CRLF included.

    Args:
        session: What `session_part` gave.
        queue_id: This message's.
        recipient: Named when it is the only one, so that no recipient learns of another.
        at: When it arrived.
    """
    tail = f"\r\n\tfor <{recipient}>; " if recipient is not None else ";\r\n\t"
    return f"{session}{queue_id}{tail}{format_date(at)}\r\n".encode()


def format_date(at: float) -> str:
    """Write an instant as RFC 5322 §3.3 does, in UTC."""
    return _date(int(at))


@lru_cache(maxsize=4)
def _date(at: int) -> str:
    """Write a second; asked for once in each."""
    return format_datetime(datetime.fromtimestamp(at, UTC))
