"""What a server has on offer beyond the core: service extensions (RFC 5321 §2.2)."""

from dataclasses import dataclass
from functools import lru_cache

from elemta.smtp.limits import Limits


@dataclass(frozen=True, slots=True)
class Offer:
    """The extensions that one client may use now; another state of the session has another offer.

    Attributes:
        smtputf8: RFC 6531.
        binarymime: RFC 3030 §3.
        dsn: RFC 3461.
        starttls: RFC 3207; not under TLS.
        mechanisms: Of AUTH (RFC 4954), the best first.
        auth_needs_tls: AUTH would be on offer under TLS.
        require_tls: RFC 8689; under TLS only.
        deliver_by: The fewest seconds that a deadline may be away (RFC 2852); None: not on offer.
        future_release: The most seconds that a message may be held (RFC 4865); 0: not on offer.
        mt_priority: RFC 6710.
        prdr: A reply for each recipient after content (draft-hall-prdr).
        recipients, messages: The most of one message, and of one session (RFC 9422); 0: unsaid.
        xclient, xforward: Postfix's, for proxies that may speak for other clients.
    """

    smtputf8: bool = True
    binarymime: bool = False
    dsn: bool = False
    starttls: bool = False
    mechanisms: tuple[str, ...] = ()
    auth_needs_tls: bool = False
    require_tls: bool = False
    deliver_by: int | None = None
    future_release: int = 0
    mt_priority: bool = False
    prdr: bool = False
    recipients: int = 0
    messages: int = 0
    xclient: bool = False
    xforward: bool = False


@lru_cache(maxsize=256)
def extension_lines(limits: Limits, offer: Offer) -> tuple[str, ...]:
    """Write the lines of the answer to EHLO, after the first.

    FUTURERELEASE is missing: it names an instant, so whoever knows the time writes it.
    """
    maxima = (("RCPTMAX", offer.recipients), ("MAILMAX", offer.messages))
    limit_words = " ".join(f"{name}={most}" for name, most in maxima if most)
    lines = (
        ("PIPELINING", True),
        (f"SIZE {limits.max_message_size}", True),
        ("8BITMIME", True),
        ("ENHANCEDSTATUSCODES", True),
        ("CHUNKING", True),
        ("BINARYMIME", offer.binarymime),
        ("SMTPUTF8", offer.smtputf8),
        ("DSN", offer.dsn),
        ("STARTTLS", offer.starttls),
        (f"AUTH {' '.join(offer.mechanisms)}", bool(offer.mechanisms)),
        ("REQUIRETLS", offer.require_tls),
        (f"DELIVERBY {offer.deliver_by or ''}".rstrip(), offer.deliver_by is not None),
        ("MT-PRIORITY MIXER", offer.mt_priority),
        ("PRDR", offer.prdr),
        (f"LIMITS {limit_words}", bool(limit_words)),
        ("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT", offer.xclient),
        ("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE", offer.xforward),
    )
    return tuple(line for line, is_offered in lines if is_offered)
