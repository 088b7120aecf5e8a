"""How DKIM signatures are judged and made."""

from dataclasses import dataclass

from elemta.mailauth.keys import MIN_RSA_BITS

_CORRESPONDENCE = ("From", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID")
_CONTENT = ("MIME-Version", "Content-Type", "Content-Transfer-Encoding")
_LIST = (
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
)


@dataclass(frozen=True, slots=True)
class DkimSettings:
    """How signatures are judged.

    Attributes:
        max_signatures: Those after so many, from the top, are not looked at.
        min_key_bits, max_key_bits: Of RSA. A shorter key is no proof (RFC 8301 §3.2: 1024), a
            longer one costs too much; neither is computed with.
        ignore_length: A signature of only the beginning of a body (`l=`) passes, and its verdict
            says how much it leaves out; otherwise it is one that policy does not take.
        clock_tolerance: Seconds for which a signature counts after it has expired (`x=`).
        future_tolerance: Seconds by which one may seem to be from the future (`t=`): many clocks
            are wrong by a time zone, and nobody gains by it.
    """

    max_signatures: int = 10
    min_key_bits: int = MIN_RSA_BITS
    max_key_bits: int = 8192
    ignore_length: bool = False
    clock_tolerance: float = 300.0
    future_tolerance: float = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class SignSettings:
    """How messages are signed.

    Attributes:
        canonicalization: Of header and body, each "simple" or "relaxed".
        fields: That are signed, as often as they are there.
        oversigned: Of these, those that must not be added later, whether they are there or not.
        expires_after: Seconds after which the signature is no longer valid (`x=`), None for never.
        identity: For whom (`i=`): "@lists.example.org", "ann@example.org"; "" to say nothing.
    """

    canonicalization: str = "relaxed/relaxed"
    fields: tuple[str, ...] = (
        *_CORRESPONDENCE,
        "Sender",
        "In-Reply-To",
        "References",
        *_CONTENT,
        *_LIST,
    )
    oversigned: tuple[str, ...] = (*_CORRESPONDENCE, *_CONTENT)
    expires_after: float | None = None
    identity: str = ""
