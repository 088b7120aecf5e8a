"""How much a record may make us ask."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpfSettings:
    """The processing limits of RFC 7208 §4.6.4, and our name.

    Attributes:
        max_lookups: Terms of all records together that ask the DNS; one more is a permerror.
        max_void_lookups: Terms whose questions may come back empty; one more is a permerror.
        max_mx: Hosts of one `mx`; more are a permerror.
        max_ptr: Names of the client's address that are looked at; the rest is passed over.
        hostname: Ours, for the macro `r` in explanations.

    Raises:
        ValueError: A limit is negative, or so high that it is none.
    """

    max_lookups: int = 10
    max_void_lookups: int = 2
    max_mx: int = 10
    max_ptr: int = 10
    hostname: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("max_lookups", "max_void_lookups", "max_mx", "max_ptr"):
            # an include within an include takes a few frames of the interpreter's stack
            if not 0 <= getattr(self, name) <= 50:
                raise ValueError(f"{name} must be from 0 to 50")
