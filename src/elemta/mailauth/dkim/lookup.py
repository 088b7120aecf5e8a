"""Where keys of signatures come from: TXT records under `_domainkey`."""

from elemta.mail.errors import LookupFailed
from elemta.mailauth.keys import KeyRecordError, PublicKey, parse_key_record
from elemta.mailauth.resolving import Resolver

_MAX_RECORDS = 5  # one is right; of several the first that is a key is taken (RFC 6376 §6.1.2)


async def fetch_key(name: str, resolver: Resolver) -> PublicKey:
    """Ask for a key.

    Args:
        name: "selector._domainkey.example.org", in A-label form.
        resolver: Who is asked.

    Raises:
        KeyRecordError: There is none, or none of use; the text is that of the first record.
        LookupFailed: The DNS does not tell for now.
    """
    answer = await resolver.query(name, "TXT")
    problem = KeyRecordError("there is no key")
    for number, record in enumerate(answer.records[:_MAX_RECORDS]):
        try:
            return parse_key_record(record)
        except KeyRecordError as error:
            problem = error if number == 0 else problem
    raise problem


async def find_key(name: str, resolver: Resolver) -> PublicKey | KeyRecordError | LookupFailed:
    """Ask for a key, as `fetch_key`; gives what went wrong where there is none."""
    try:
        return await fetch_key(name, resolver)
    except (KeyRecordError, LookupFailed) as error:
        return error
