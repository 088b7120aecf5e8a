"""What DNSSEC vouches for, as a validating resolver says it, and whom we believe."""

import asyncio
from collections.abc import Iterator

import pytest
from servers.unbound import Names, run_unbound

from elemta.mail.errors import LookupFailed
from elemta.net import DnsResolver, DnsSettings, SystemClock

RECORDS = """
@ MX 10 mx
mx A 192.0.2.1
word TXT "spoken"
alias CNAME word
out CNAME word.plain.test.
"""
ZONES = {
    "signed.test": RECORDS,
    "plain.test": RECORDS + "in CNAME word.signed.test.\nbad CNAME word.bogus.test.\n",
    "bogus.test": RECORDS,
}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    folder = tmp_path_factory.mktemp("dns")
    with run_unbound(folder, ZONES, signed=["signed.test"], bogus=["bogus.test"]) as names:
        yield names


def resolver(*servers: tuple[str, int], **options) -> DnsResolver:
    settings = DnsSettings(nameservers=servers, timeout=20.0, **options)
    return DnsResolver(settings, SystemClock())


@pytest.mark.parametrize(
    ("name", "rdtype", "is_secure"),
    [
        ("signed.test", "MX", True),
        ("word.signed.test", "TXT", True),
        ("alias.signed.test", "TXT", True),
        ("word.signed.test", "A", True),
        ("nobody.signed.test", "A", True),
        ("word.plain.test", "TXT", False),
        ("nobody.plain.test", "A", False),
        ("out.signed.test", "TXT", False),
        ("in.plain.test", "TXT", False),
    ],
)
async def test_what_is_signed_is_secure(
    names: Names, name: str, rdtype: str, is_secure: bool
) -> None:
    answer = await resolver(names.validating).query(name, rdtype)
    assert answer.is_secure is is_secure
    assert answer.exists is not name.startswith("nobody")


async def test_what_is_secure_stays_so_in_the_cache(names: Names) -> None:
    it = resolver(names.validating)
    for _ in range(2):
        assert (await it.query("word.signed.test", "TXT")).is_secure
    assert it.cache.hits == 1


@pytest.mark.parametrize("name", ["word.bogus.test", "bad.plain.test", "nobody.bogus.test"])
async def test_what_is_bogus_is_a_failure(names: Names, name: str) -> None:
    it = resolver(names.validating)
    with pytest.raises(LookupFailed, match=f"{name}/TXT: bogus, says DNSSEC: "):
        await it.query(name, "TXT")
    assert it.figures.questions == {("TXT", "bogus"): 1}


async def test_of_what_is_bogus_no_other_server_is_asked(names: Names) -> None:
    with pytest.raises(LookupFailed, match="bogus"):
        await resolver(names.validating, names.authoritative).query("word.bogus.test", "TXT")


async def test_who_does_not_say_what_is_bogus_fails(tmp_path) -> None:
    zones = {"bogus.test": RECORDS}
    with run_unbound(tmp_path, zones, bogus=["bogus.test"], ede=False) as silent:
        it = resolver(silent.validating)
        with pytest.raises(LookupFailed, match=r"word\.bogus\.test/TXT: SERVFAIL"):
            await it.query("word.bogus.test", "TXT")
    assert it.figures.questions == {("TXT", "servfail"): 1}


async def test_who_does_not_validate_vouches_for_nothing(names: Names) -> None:
    answer = await resolver(names.authoritative).query("word.signed.test", "TXT")
    assert answer.records == (b"spoken",)
    assert not answer.is_secure


@pytest.mark.parametrize(("trust", "is_secure"), [("never", False), ("always", True)])
async def test_whose_word_counts(names: Names, trust: str, is_secure: bool) -> None:
    answer = await resolver(names.validating, trust_ad=trust).query("word.signed.test", "TXT")
    assert answer.is_secure is is_secure


async def test_an_answer_over_tcp_is_as_secure(tmp_path) -> None:
    long = "".join(f'long TXT "{"x" * 200}{n}"\n' for n in range(20))
    with run_unbound(tmp_path, {"signed.test": long}, signed=["signed.test"]) as names:
        answers = await asyncio.gather(
            *(resolver(names.validating).query("long.signed.test", "TXT") for _ in range(2))
        )
    assert [(len(answer.records), answer.is_secure) for answer in answers] == [(20, True)] * 2
