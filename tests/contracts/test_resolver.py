"""What every resolver does, held against a real name server and against the fake."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from servers.knot import run_knot

from elemta.mail.errors import LookupFailed
from elemta.net import DnsResolver, DnsSettings, MxAnswer, Resolver, SystemClock
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
    "broken.invalid": None,
}


def _zone_text(domain: str) -> str:
    lines = []
    for name, records in ZONE.items():
        if records is None or not (name == domain or name.endswith("." + domain)):
            continue
        for rdtype, values in records.items():
            for value in values:
                text = f"{value[0]} {value[1].rstrip('.')}." if rdtype == "MX" else value
                lines.append(f"{name}. {rdtype} {text}{'.' if rdtype == 'CNAME' else ''}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    # several zones: an alias that leads to another one is followed by the server itself
    zones = {name: _zone_text(name) for name in ("example.test", "plain.test", "silent.test")}
    with run_knot(tmp_path_factory.mktemp("dns"), zones) as address:
        yield address


@pytest.fixture(params=["dns", "fake"])
def resolver(request: pytest.FixtureRequest) -> Resolver:
    if request.param == "fake":
        return FakeResolver(ZONE)
    settings = DnsSettings(nameservers=(request.getfixturevalue("nameserver"),), timeout=3.0)
    return DnsResolver(settings, SystemClock())


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
    with pytest.raises(LookupFailed, match=r"broken\.invalid/MX"):
        await resolver.mx("broken.invalid")
    with pytest.raises(LookupFailed, match=r"broken\.invalid/A"):
        await resolver.addresses("broken.invalid", 4)


async def test_localhost_is_known_to_all(resolver: Resolver) -> None:
    assert await resolver.addresses("localhost", 4) == ("127.0.0.1",)
    assert await resolver.addresses("db.localhost", 6) == ("::1",)
