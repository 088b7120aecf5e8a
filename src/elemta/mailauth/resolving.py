"""How this room asks the DNS: one question, one answer, and nothing of how it comes about."""

from typing import Any, Protocol


class Answer(Protocol):
    """What the DNS says of one name and type.

    Attributes:
        records: In the order received. TXT: octets, the strings of a record joined. MX:
            `(preference, host)`. A, AAAA: an address as text. PTR: a host name. Host names are in
            lower case without a final dot, and "." is the root. TLSA: `(usage, selector, matching
            type, octets)`, as they stand there.
        ttl: Seconds for which it may be believed.
        exists: Whether there is such a name at all.
        is_secure: Whether a validating resolver that we trust vouches for it (DNSSEC).
    """

    @property
    def records(self) -> tuple[Any, ...]: ...

    @property
    def ttl(self) -> float: ...

    @property
    def exists(self) -> bool: ...

    @property
    def is_secure(self) -> bool: ...


class Resolver(Protocol):
    """Looks names up."""

    async def query(self, name: str, rdtype: str) -> Answer:
        """Ask for TXT, MX, A, AAAA, PTR or TLSA records of a name; aliases (CNAME) are followed.

        Args:
            name: In lower-case A-label form, without a final dot.
            rdtype: The type.

        Raises:
            ValueError: It is another type.
            LookupFailed: The DNS does not answer, or says that it cannot, or what it says is
                bogus. A name that no zone can hold does not exist; that is an answer.
        """
        ...
