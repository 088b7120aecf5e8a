"""Others agree with us: chains sealed here are whole for dkimpy, and its chains are whole here."""

import dkim
import pytest
from mailauth.arc.chains import MESSAGE, A, C, Server, judge, pass_on, seal

from elemta.mailauth import AuthStatus
from elemta.mailauth.keys import PrivateKey

D = Server("d.example", PrivateKey.generate("rsa", 2048))  # dkimpy has no Ed25519 in chains
ZONE = {**A.zone, **C.zone, **D.zone}


def theirs(raw: bytes) -> bytes | None:
    """What dkimpy says: b"pass", b"fail" or b"none"; None for a chain that has ended."""

    def find(name, timeout=5):
        records = ZONE.get(name.decode().rstrip("."), {}).get("TXT")
        return records[0].encode() if records else None

    return dkim.arc_verify(raw, dnsfunc=find)[0]


def seal_by_them(raw: bytes, server: Server, status: str) -> bytes:
    """As dkimpy seals it, by what an Authentication-Results field of that server says."""
    result = f"Authentication-Results: {server.domain}; arc={status}; spf=pass\r\n".encode()
    lines = dkim.arc_sign(
        result + raw,
        b"s",
        server.domain.encode(),
        server.key.pem(),
        server.domain.encode(),
        include_headers=[b"from", b"to", b"subject", b"date"],
    )
    assert len(lines) == 3
    return b"".join(lines) + raw


@pytest.mark.parametrize("servers", [(A,), (A, D), (D, A, C), (A, D, C, A, D, C)])
async def test_our_chains(servers):
    raw = await pass_on(MESSAGE, *servers, zone=ZONE)
    assert theirs(raw) == b"pass"
    assert theirs(raw.replace(b"Hello", b"HELLO")) == b"fail"
    assert theirs(raw.replace(b"Subject: A", b"Subject: B")) == b"fail"
    assert theirs(raw.replace(b"dmarc=pass", b"dmarc=fail", 1)) == b"fail"


async def test_our_end_of_a_chain():
    raw = await pass_on((await pass_on(MESSAGE, A)).replace(b"Hello", b"HELLO"), C)
    assert b"cv=fail" in raw
    assert theirs(raw) is None


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_their_chains(count):
    raw = MESSAGE
    for number, server in enumerate((A, C, D)[:count]):
        raw = seal_by_them(raw, server, "pass" if number else "none")
    verdict = await judge(raw, ZONE)
    assert (verdict.status, verdict.instances) == (AuthStatus.PASS, count), verdict
    assert (await judge(raw.replace(b"Hello", b"HELLO"), ZONE)).status is AuthStatus.FAIL


async def test_by_turns():
    raw = seal_by_them(await pass_on(MESSAGE, A), C, "pass")
    assert (await judge(raw, ZONE)).sealers == ("a.example", "c.example")
    raw = await pass_on(raw, D, zone=ZONE)
    assert theirs(raw) == b"pass"
    assert (await judge(raw, ZONE)).instances == 3


async def test_the_same_end_for_both():
    """A chain that failed is sealed over the newest set alone: RFC 8617 §5.1.2."""
    broken = (await pass_on(MESSAGE, A)).replace(b"Hello", b"HELLO")
    raw = seal_by_them(broken, C, "fail")
    verdict = await judge(raw)
    assert verdict.problem == "a server before has found that it failed (cv=fail)"
    assert seal(raw, D, verdict) == raw
