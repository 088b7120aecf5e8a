"""The tools of plugins on a server that runs: over sessions, workers, crashes and restarts."""

import os
import signal

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta

from elemta.plugins.tooling import log_path

COUNTING = """
from elemta.plugins import *

class Counting(Plugin[Settings]):
    metadata = Metadata(name="counting")

    async def on_helo(self, ctx):
        count = await ctx.kv.increment("calls")
        cached = await ctx.cache.fetch("half", 60, self.load)
        ctx.log.debug(f"call {count}")
        ctx.metrics.count("calls", name=ctx.name)
        ctx.metrics.observe("half", count / 2)
        return Result.reject(f"call {count} {cached} at {self.tools.hostname}")

    async def load(self):
        return "cached"
"""
REST = (
    MAILDIR
    + """
[plugins]
directory = "{folder}/plugins"
[[plugins.plugin]]
name = "counting"
log_level = "debug"
"""
)
PLUGIN = 'plugin="counting"'


def call(server: Elemta) -> str:
    client = Dialogue(server.port)
    try:
        return client.say("EHLO client.test")
    finally:
        client.socket.close()


def test_tools(tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "counting.py").write_text(COUNTING)
    server = Elemta(tmp_path, rest=REST, workers=2)
    try:
        server.start()
        replies = [call(server) for _ in range(8)]
        assert replies == [f"550 5.7.1 call {n} cached at mail.example.test" for n in range(1, 9)]
        series = f'elemta_plugin_counting_calls_total{{name="client.test",{PLUGIN}}}'
        server.wait_for(lambda: server.metric(series) == 8, "the counter")
        calls = f'elemta_plugin_calls_total{{hook="on_helo",{PLUGIN}}}'
        server.wait_for(lambda: server.metric(calls) == 8, "the calls")
        decided = f'elemta_plugin_decisions_total{{decision="reject",hook="on_helo",{PLUGIN}}}'
        assert server.metric(decided) == 8
        assert server.metric(f"elemta_plugin_counting_half_sum{{{PLUGIN}}}") == 18
        said = [event["text"] for event in server.wait_event("plugin_logged", count=8)]
        assert sorted(said) == [f"call {n}" for n in range(1, 9)]
        own = log_path(server.state, "counting")
        server.wait_for(
            lambda: own.exists() and own.read_text().count("DEBUG   call") == 8, "its own log"
        )

        # a worker that dies takes neither values nor figures with it
        worker = server.events("worker_started")[0]["pid"]
        os.kill(worker, signal.SIGKILL)
        server.wait_event("worker_started", count=3)
        assert call(server) == "550 5.7.1 call 9 cached at mail.example.test"
        server.wait_for(lambda: server.metric(series) == 9, "the counter goes on")
        assert server.stop() == 0

        # values outlive the server
        server.start()
        assert call(server) == "550 5.7.1 call 10 cached at mail.example.test"
        assert server.stop() == 0
    finally:
        server.kill()
