"""What every resolver does, held against a real name server and against the fake."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from servers.unbound import Names, run_unbound

from elemta.mail.errors import LookupFailed
from elemta.net import DnsResolver, DnsSettings, MxAnswer, Resolver, SystemClock
from elemta.net.dns.cache import RDTYPES
from elemta.testing import FakeResolver

LONG = 90

ZONE: dict[str, Mapping[str, list[Any]] | None] = {
    "example.test": {"MX": [(20, "mx2.example.test"), (10, "mx1.example.test")]},
    "mx1.example.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "mx2.example.test": {"A": ["192.0.2.2", "192.0.2.3"]},
    "plain.test": {"A": ["192.0.2.9"]},
    "silent.test": {"MX": [(0, ".")]},
    "alias.plain.test": {"CNAME": ["example.test"]},
    "dangling.plain.test": {"CNAME": ["nobody.plain.test"]},
    "loop.plain.test": {"CNAME": ["loop2.plain.test"]},
    "loop2.plain.test": {"CNAME": ["loop.plain.test"]},
    "xn--bcher-kva.plain.test": {"MX": [(5, "mx1.example.test")]},
    "mixed.plain.test": {"MX": [(0, "."), (10, "mx1.example.test")]},
    "many.plain.test": {"MX": [(n, f"a-host-of-many-{n:03}.plain.test") for n in range(LONG)]},
    "broken.test": None,
    "word.plain.test": {"TXT": [b"v=spf1 -all", b"x" * 700, b'\xc3\xa4;"\\', b""]},
    "alias.word.plain.test": {"CNAME": ["word.plain.test"]},
    "_25._tcp.mx.silent.test": {
        "TLSA": [(3, 1, 1, bytes(range(32))), (2, 0, 0, b"x" * 900), (3, 1, 1, b"too short")]
    },
    "9.plain.test": {"PTR": ["host.example.test", "mx1.example.test"]},
    "word.silent.test": {"TXT": [b"signed"], "A": ["192.0.2.7"]},
    "alias.silent.test": {"CNAME": ["word.silent.test"]},
    "out.silent.test": {"CNAME": ["word.plain.test"]},
    "in.plain.test": {"CNAME": ["word.silent.test"]},
}
SIGNED = "silent.test"


def _zone_text(domain: str) -> str:
    lines = []
    for name, records in ZONE.items():
        if records is None or not (name == domain or name.endswith("." + domain)):
            continue
        for rdtype, values in records.items():
            lines += [f"{name}. {rdtype} {_text(rdtype, value)}" for value in values]
    return "\n".join(lines) + "\n"


def _text(rdtype: str, value: Any) -> str:
    """A record as zone files have it."""
    if rdtype == "MX":
        return f"{value[0]} {value[1].rstrip('.')}."
    if rdtype == "TLSA":
        # as of a type that is not known (RFC 3597): Knot would not take what is too short
        octets = bytes(value[:3]) + value[3]
        return f"\\# {len(octets)} {octets.hex()}"
    if rdtype == "TXT":  # in strings of 255 octets at most
        octets = [f"\\{octet:03}" for octet in value]
        strings = ["".join(octets[at : at + 255]) for at in range(0, max(len(octets), 1), 255)]
        return " ".join(f'"{each}"' for each in strings)
    return f"{value}." if rdtype in {"CNAME", "PTR"} else value


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    # several zones: an alias that leads to another one is followed by the server itself
    zones = {name: _zone_text(name) for name in ("example.test", "plain.test", "silent.test")}
    with run_unbound(tmp_path_factory.mktemp("dns"), zones, signed=[SIGNED]) as names:
        yield names


def make_resolver(kind: str, request: pytest.FixtureRequest) -> Resolver:
    """A fake, or one that asks an authoritative server, or a resolver that validates."""
    if kind == "fake":
        return FakeResolver(
            ZONE, [name for name in (*ZONE, "nobody.silent.test") if SIGNED in name]
        )
    names = request.getfixturevalue("names")
    server = names.validating if kind == "validating" else names.authoritative
    return DnsResolver(DnsSettings(nameservers=(server,), timeout=20.0), SystemClock())


@pytest.fixture(params=["authoritative", "validating", "fake"])
def resolver(request: pytest.FixtureRequest) -> Resolver:
    return make_resolver(request.param, request)


@pytest.fixture(params=["validating", "fake"])
def validating(request: pytest.FixtureRequest) -> Resolver:
    return make_resolver(request.param, request)


async def test_mail_exchangers_come_best_first(resolver: Resolver) -> None:
    answer = await resolver.mx("example.test")
    assert answer == MxAnswer(((10, "mx1.example.test"), (20, "mx2.example.test")))
    assert not answer.is_null


async def test_addresses_by_family(resolver: Resolver) -> None:
    assert await resolver.addresses("mx1.example.test", 4) == ("192.0.2.1",)
    assert await resolver.addresses("mx1.example.test", 6) == ("2001:db8::1",)
    assert set(await resolver.addresses("mx2.example.test", 4)) == {"192.0.2.2", "192.0.2.3"}
    assert await resolver.addresses("mx2.example.test", 6) == ()


async def test_a_domain_without_mail_exchangers_exists(resolver: Resolver) -> None:
    assert await resolver.mx("plain.test") == MxAnswer((), exists=True)


async def test_a_domain_that_does_not_exist(resolver: Resolver) -> None:
    assert await resolver.mx("nobody.example.test") == MxAnswer((), exists=False)
    assert await resolver.addresses("nobody.example.test", 4) == ()
    assert await resolver.addresses("nobody.example.test", 6) == ()


async def test_a_domain_that_takes_no_mail(resolver: Resolver) -> None:
    assert (await resolver.mx("silent.test")).is_null


async def test_the_root_among_other_exchangers_is_ignored(resolver: Resolver) -> None:
    answer = await resolver.mx("mixed.plain.test")
    assert answer.hosts == ((10, "mx1.example.test"),)
    assert not answer.is_null


async def test_aliases_are_followed(resolver: Resolver) -> None:
    assert (await resolver.mx("alias.plain.test")).hosts == (
        (10, "mx1.example.test"),
        (20, "mx2.example.test"),
    )


async def test_an_alias_of_nothing_does_not_exist(resolver: Resolver) -> None:
    assert await resolver.mx("dangling.plain.test") == MxAnswer((), exists=False)


async def test_a_ring_of_aliases_is_a_failure(resolver: Resolver) -> None:
    with pytest.raises(LookupFailed, match=r"loop\.plain\.test"):
        await resolver.mx("loop.plain.test")


async def test_an_answer_too_long_for_a_datagram(resolver: Resolver) -> None:
    answer = await resolver.mx("many.plain.test")
    assert len(answer.hosts) == LONG
    assert answer.hosts[-1] == (LONG - 1, f"a-host-of-many-{LONG - 1:03}.plain.test")


async def test_internationalised_names_are_asked_as_a_labels(resolver: Resolver) -> None:
    assert (await resolver.mx("xn--bcher-kva.plain.test")).hosts == ((5, "mx1.example.test"),)


async def test_a_server_that_refuses_is_a_failure(resolver: Resolver) -> None:
    with pytest.raises(LookupFailed, match=r"broken\.test/MX"):
        await resolver.mx("broken.test")
    with pytest.raises(LookupFailed, match=r"broken\.test/A"):
        await resolver.addresses("broken.test", 4)


async def test_localhost_is_known_to_all(resolver: Resolver) -> None:
    assert await resolver.addresses("localhost", 4) == ("127.0.0.1",)
    assert await resolver.addresses("db.localhost", 6) == ("::1",)


# ---- any records


async def test_texts_are_joined_octets(resolver: Resolver) -> None:
    for name in ("word.plain.test", "alias.word.plain.test"):
        answer = await resolver.query(name, "TXT")
        assert set(answer.records) == set(ZONE["word.plain.test"]["TXT"])
        assert answer.exists
        assert 290 <= answer.ttl <= 300


async def test_hosts_of_an_address(resolver: Resolver) -> None:
    answer = await resolver.query("9.plain.test", "PTR")
    assert set(answer.records) == {"host.example.test", "mx1.example.test"}


async def test_addresses_and_exchangers_as_records(resolver: Resolver) -> None:
    assert (await resolver.query("mx1.example.test", "A")).records == ("192.0.2.1",)
    assert (await resolver.query("mx1.example.test", "AAAA")).records == ("2001:db8::1",)
    expected = {(10, "mx1.example.test"), (20, "mx2.example.test")}
    assert set((await resolver.query("alias.plain.test", "MX")).records) == expected
    assert (await resolver.query("silent.test", "MX")).records == ((0, "."),)


async def test_certificates_are_told_of_as_they_stand_there(resolver: Resolver) -> None:
    answer = await resolver.query("_25._tcp.mx.silent.test", "TLSA")
    assert set(answer.records) == set(ZONE["_25._tcp.mx.silent.test"]["TLSA"])


async def test_certificates_are_as_secure_as_their_zone(validating: Resolver) -> None:
    assert (await validating.query("_25._tcp.mx.silent.test", "TLSA")).is_secure
    absent = await validating.query("nobody.silent.test", "TLSA")
    assert (absent.records, absent.is_secure) == ((), True)


@pytest.mark.parametrize("rdtype", sorted(RDTYPES))
async def test_absence_of_records_is_not_that_of_a_name(resolver: Resolver, rdtype: str) -> None:
    empty = await resolver.query("broken.plain.test", rdtype)
    assert (empty.records, empty.exists) == ((), False)
    empty = await resolver.query("example.test" if rdtype != "MX" else "plain.test", rdtype)
    assert (empty.records, empty.exists) == ((), True)
    dangling = await resolver.query("dangling.plain.test", rdtype)
    assert (dangling.records, dangling.exists) == ((), False)


async def test_a_failure_is_no_absence(resolver: Resolver) -> None:
    with pytest.raises(LookupFailed, match=r"broken\.test/TXT"):
        await resolver.query("broken.test", "TXT")


@pytest.mark.parametrize(
    "name", ["", "..", "x" * 64 + ".test", "b\u00fccher.test", ".".join(["x" * 60] * 5), "x" * 5000]
)
async def test_what_cannot_be_a_name_does_not_exist(resolver: Resolver, name: str) -> None:
    answer = await resolver.query(name, "TXT")
    assert (answer.records, answer.exists) == ((), False)


@pytest.mark.parametrize("rdtype", ["", "a", "ANY", "CNAME", "AXFR", "TYPE16"])
async def test_other_types_cannot_be_asked_for(resolver: Resolver, rdtype: str) -> None:
    with pytest.raises(ValueError, match="cannot be asked for"):
        await resolver.query("example.test", rdtype)


@pytest.mark.parametrize(
    ("name", "is_secure"),
    [
        ("word.silent.test", True),
        ("alias.silent.test", True),
        ("nobody.silent.test", True),
        ("out.silent.test", False),
        ("in.plain.test", False),
        ("word.plain.test", False),
        ("nobody.plain.test", False),
    ],
)
async def test_only_a_chain_that_is_secure_throughout_is_secure(
    validating: Resolver, name: str, is_secure: bool
) -> None:
    for rdtype in ("TXT", "AAAA"):
        assert (await validating.query(name, rdtype)).is_secure is is_secure
