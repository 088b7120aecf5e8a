"""Plugins on the running server look names up, in the worker and outside of it."""

import json

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.knot import run_knot

ZONE = """
word TXT "spoken, " "and joined"
word TLSA 3 0 0 414243
crowd MX 20 b.a.test.
crowd MX 10 a.a.test.
alias CNAME word
"""
PLUGIN = """
import asyncio
from elemta.plugins import *

class Asking(Plugin[Settings]):
    metadata = Metadata(name="asking")

    async def on_helo(self, ctx):
        name, _, rdtype = ctx.name.rpartition(".")
        if rdtype == "org":
            return None
        try:
            answer = await ctx.dns.query(name, rdtype.upper())
        except (LookupFailed, ValueError) as error:
            return Result.reject(f"{type(error).__name__}: {error}")
        told = sorted(answer.records), answer.exists, answer.is_secure, answer.ttl > 0
        return Result.reject(str(told))

    async def on_mail_from(self, ctx):
        names = [f"n{number}.a.test" for number in range(300)]
        answers = await asyncio.gather(*(ctx.dns.query(name, "A") for name in names))
        return Result.reject(f"{sum(not answer.exists for answer in answers)} are not there")
"""
REST = (
    MAILDIR
    + """
[plugins]
directory = {plugins}
[[plugins.plugin]]
name = "asking"
isolation = "{isolation}"
[dns]
nameservers = ["127.0.0.1:{port}"]
timeout = "10s"
"""
)


@pytest.fixture(params=["none", "process"])
def server(request, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "asking.py").write_text(PLUGIN)
    with run_knot(tmp_path, {"a.test": ZONE}) as (_, port):
        rest = REST.replace("{plugins}", json.dumps(str(plugins)))
        rest = rest.replace("{isolation}", request.param).replace("{port}", str(port))
        with running(tmp_path / "server", rest=rest) as elemta:
            yield elemta


def test_a_plugin_asks_the_dns(server):
    def ask(question):
        reply = client.say(f"EHLO {question}")
        assert reply.startswith("550 5.7.1 ")
        return reply.removeprefix("550 5.7.1 ").strip()

    with Dialogue(server.port) as client:
        assert ask("word.a.test.txt") == "([b'spoken, and joined'], True, False, True)"
        assert ask("alias.a.test.txt") == "([b'spoken, and joined'], True, False, True)"
        crowd = "([(10, 'a.a.test'), (20, 'b.a.test')], True, False, True)"
        assert ask("crowd.a.test.mx") == crowd
        assert ask("word.a.test.tlsa") == "([(3, 0, 0, b'ABC')], True, False, True)"
        assert ask("word.a.test.mx") == "([], True, False, True)"
        assert ask("nobody.a.test.txt") == "([], False, False, True)"
        assert ask("elsewhere.test.txt").startswith("LookupFailed: elsewhere.test/TXT: REFUSED")
        assert ask("word.a.test.any").startswith("ValueError: records of type ANY")
        assert client.hello().startswith("250")
        assert "300 are not there" in client.say("MAIL FROM:<a@b.test>")
