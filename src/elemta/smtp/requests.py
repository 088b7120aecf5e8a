"""What a sender asked for, as parameters of MAIL and RCPT that a peer understands."""

from collections.abc import Container

from elemta.mail.message import Requests

_LONGEST_BY = 999_999_999  # seconds; RFC 2852 §4 allows nine digits


def mail_parameters(requests: Requests, offers: Container[str], now: float) -> str:
    """Parameters of MAIL, each with a space before it.

    Args:
        requests: Of the message.
        offers: Keywords of the peer's extensions, upper case.
        now: The time; what is left until the deadline is passed on (RFC 2852 §4).
    """
    words: list[str] = []
    if "DSN" in offers:
        if requests.ret:
            words.append(f"RET={requests.ret}")
        if requests.envid:
            words.append(f"ENVID={requests.envid}")
    if requests.deliver_by and "DELIVERBY" in offers:
        left = round(requests.deliver_by - now)
        left = max(-_LONGEST_BY, min(_LONGEST_BY, left))
        if requests.by_mode == "R":  # RFC 2852 §4: it must be positive
            left = max(left, 1)
        words.append(f"BY={left};{requests.by_mode}{'T' if requests.by_trace else ''}")
    if requests.mt_priority is not None and "MT-PRIORITY" in offers:
        words.append(f"MT-PRIORITY={requests.mt_priority}")
    if requests.require_tls and "REQUIRETLS" in offers:
        words.append("REQUIRETLS")
    return "".join(f" {word}" for word in words)


def rcpt_parameters(requests: Requests, index: int, offers: Container[str]) -> str:
    """Parameters of RCPT for the recipient of this index, each with a space before it."""
    asked = requests.dsn.get(index)
    if asked is None or "DSN" not in offers:
        return ""
    notify, original = asked
    words = f" NOTIFY={notify}" if notify else ""
    if original and (original.isascii() or "SMTPUTF8" in offers):
        words += f" ORCPT={original}"
    return words
