"""Chains that are sealed here are whole for rspamd, with keys from a real name server."""

import pytest
from mailauth.arc.chains import MESSAGE, A, B, C, Server, pass_on
from servers.knot import run_knot
from servers.rspamd import run_rspamd


def write_zone(server: Server) -> str:
    """The key in strings of at most 255 octets."""
    text = server.key.record()
    strings = " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))
    return f"s._domainkey IN TXT {strings}\n"


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rspamd")
    zones = {server.domain: write_zone(server) for server in (A, B, C)}
    with run_knot(folder, zones) as nameserver, run_rspamd(folder, nameserver) as judge:
        yield judge


@pytest.mark.parametrize("servers", [(A,), (B,), (A, C), (B, A, C, B)])
async def test_whole_and_changed(rspamd, servers):
    raw = await pass_on(MESSAGE, *servers)
    last = f"{servers[-1].domain}:s=s:i={len(servers)}"
    assert rspamd(raw)["ARC_ALLOW"] == [last]
    assert "ARC_REJECT" in rspamd(raw.replace(b"Hello", b"HELLO"))
    assert "ARC_REJECT" in rspamd(raw.replace(b"dmarc=pass", b"dmarc=fail", 1))


async def test_no_chain_and_one_that_has_failed(rspamd):
    assert "ARC_NA" in rspamd(MESSAGE)
    broken = (await pass_on(MESSAGE, A)).replace(b"Hello", b"HELLO")
    raw = await pass_on(broken, C)
    assert b"cv=fail" in raw
    assert not {"ARC_ALLOW", "ARC_NA"} & rspamd(raw).keys()
