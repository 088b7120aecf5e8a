"""A DNS of a test's own, written as in the test suite of RFC 7208 (`zonedata`)."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from elemta.mail.errors import LookupFailed
from elemta.mailauth import SpfVerdict
from elemta.mailauth.spf import SpfChecker, SpfSettings
from elemta.net import Answer
from elemta.testing import FakeResolver

T = TypeVar("T")
Zonedata = Mapping[str, Sequence[Any]]


def octets(value: str | Sequence[str]) -> bytes:
    """A TXT record; its strings are joined, letters up to U+00FF stand for octets."""
    return ("".join(value) if not isinstance(value, str) else value).encode("latin-1")


def host(name: str) -> str:
    return name.lower().removesuffix(".") or "."


def read_records(entries: Sequence[Any]) -> dict[str, list[Any]]:
    """The records of a name by type; SPF stands for TXT unless there are TXT records."""
    found: dict[str, list[Any]] = {}
    for entry in entries:
        if entry == "TIMEOUT":
            continue
        [(rdtype, value)] = entry.items()
        if rdtype in {"TXT", "SPF"}:
            found.setdefault(rdtype, []).extend([] if value == "NONE" else [octets(value)])
        elif rdtype == "MX":
            found.setdefault("MX", []).append((value[0], host(value[1])))
        elif rdtype in {"PTR", "CNAME"}:
            found.setdefault(rdtype, []).append(host(value))
        else:
            found.setdefault(rdtype, []).append(value)
    spf = found.pop("SPF", None)
    if spf is not None and "TXT" not in found:
        found["TXT"] = spf
    return found


class SuiteResolver(FakeResolver):
    """A name with `TIMEOUT` answers only for the types of which it has records."""

    def __init__(self, zonedata: Zonedata):
        super().__init__({host(name): read_records(each) for name, each in zonedata.items()})
        self.silent = {host(name) for name, each in zonedata.items() if "TIMEOUT" in each}

    async def query(self, name: str, rdtype: str) -> Answer:
        answer = await super().query(name, rdtype)
        if name in self.silent and not answer.records:
            raise LookupFailed(f"{name}/{rdtype} cannot be looked up")
        return answer


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, as with a resolver that answers at once, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def judge(
    resolver: FakeResolver,
    sender: str,
    *,
    ip: str = "192.0.2.1",
    helo: str = "mx.client.test",
    **limits: Any,
) -> SpfVerdict:
    """Check a sender, for a client that is 192.0.2.1 unless said otherwise."""
    checker = SpfChecker(resolver, SpfSettings(**limits))
    return drive(checker.check(ip, sender.rpartition("@")[2], sender, helo, now=1_700_000_000.0))
