"""Plugins in the running server that read a message just before it is sent, and sign it."""

import contextlib
import hashlib
import json
import re
import textwrap

import pytest
from servers.elemta import running
from servers.next_hop import NextHop, serving

CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["held.test"]
via = "hold"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
[queue]
jitter = 0.0
[plugins]
directory = {folder}
[[plugins.plugin]]
name = "seal"
module = "seal.py"
on_error = "reject"
isolation = {isolation}
"""
SEAL = '''
import hashlib

from elemta.plugins import *

class Seal(Plugin[Settings]):
    """Signs what leaves, as DKIM does: with a field about header section and body."""

    metadata = Metadata(name="seal")

    async def on_pre_delivery(self, ctx: DeliveryContext) -> Result:
        digest, largest, size = hashlib.sha256(), 0, 0
        async for piece in ctx.chunks():
            digest.update(piece)
            largest, size = max(largest, len(piece)), size + len(piece)
        start = (await ctx.read(9)).decode()
        assert size == ctx.size, (size, ctx.size)
        subject = ctx.headers.get("subject")
        seal = f"{subject} {start} {largest} {digest.hexdigest()}"
        return Result.modify(InsertHeader("X-Seal", seal))
'''
SMALL = b"Subject: hello\r\n\r\nhello\r\n"
LARGE = SMALL + b"".join(b"line %d of a large message\r\n" % number for number in range(180_000))
PIECE = 256 * 1024
FIELD = re.compile(rb"X-Seal: (\S+)\s+(\S+)\s+(\d+)\s+(\w{64})\r\n")


@contextlib.contextmanager
def sealing(folder, isolation):
    plugins = folder / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "seal.py").write_text(textwrap.dedent(SEAL))
    (plugins / "seal.py").chmod(0o644)
    with serving(hop := NextHop()):
        words = {"folder": json.dumps(str(plugins)), "isolation": json.dumps(isolation)}
        with running(folder / "server", rest=CONFIG.format(port=hop.port, **words)) as elemta:
            yield elemta, hop
            assert not elemta.events("internal_error")


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_what_is_signed_is_what_is_sent(tmp_path, isolation):
    with sealing(tmp_path, isolation) as (elemta, hop):
        for number, content in enumerate((SMALL, LARGE), 1):
            queue_id = elemta.send("a@b.test", "c@far.test", content=content)
            elemta.wait_event("message_delivered", queue_id=queue_id)
            assert len(hop.taken) == number
            sent = hop.taken[-1].content
            subject, start, largest, digest = FIELD.match(sent).groups()
            rest = FIELD.sub(b"", sent, count=1)
            assert rest.startswith(b"Received:")
            assert rest.endswith(content[content.index(b"\r\n\r\n") :])
            assert (subject, start) == (b"hello", b"Received:")
            assert digest.decode() == hashlib.sha256(rest).hexdigest()
            assert int(largest) <= PIECE
        assert not elemta.events("plugin_error")


def test_content_that_cannot_be_read_is_not_refused_in_the_name_of_a_plugin(tmp_path):
    with sealing(tmp_path, "none") as (elemta, hop):
        queue_id = elemta.send("a@b.test", "c@held.test", content=LARGE)
        elemta.wait_event("message_enqueued", queue_id=queue_id)
        (file,) = elemta.state.glob(f"**/spool/{queue_id}")
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        file.write_bytes(damaged)
        elemta.cli("queue", "release", queue_id)
        elemta.wait_event("message_corrupt", queue_id=queue_id)
        assert not elemta.events("message_bounced")
        assert not hop.taken
