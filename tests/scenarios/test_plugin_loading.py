"""Plugins on the running server: found, loaded, refused, reloaded."""

import asyncio
import json
import os
import signal

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running

from elemta import __version__
from elemta.cli.orders import Carried, order_workers
from elemta.config import load
from elemta.net.clock import SystemClock
from elemta.plugins.loading.listing import read_listings
from elemta.plugins.loading.orders import PluginOrder, PluginVerb

CLOSED = """
from elemta.plugins import Metadata, Plugin, Result


class Closed(Plugin):
    metadata = Metadata(name="closed", version="1.0.0")

    def on_mail_from(self, ctx):
        return Result.reject("We are closed")
"""


def with_plugins(folder, files, settings=""):
    """The rest of a configuration, with files in the folder of plugins."""
    directory = folder / "plugins"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return MAILDIR + f'[plugins]\ndirectory = "{directory}"\n' + settings


def mail_from(port):
    with Dialogue(port) as client:
        client.hello()
        return client.say("MAIL FROM:<a@example.org>")


def test_a_file_in_the_folder_is_asked(tmp_path):
    rest = with_plugins(tmp_path, {"closed.py": CLOSED})
    with running(tmp_path, rest=rest) as server:
        assert mail_from(server.port) == "550 5.7.1 We are closed"
        [loaded] = server.wait_event("plugin_changed")
        assert (loaded["plugin"], loaded["change"], loaded["version"]) == (
            "closed",
            "loaded",
            "1.0.0",
        )
        assert server.stop() == 0


def test_a_broken_file_keeps_the_server_from_starting(tmp_path):
    broken = CLOSED.replace("on_mail_from", "on_mail_form")
    server = Elemta(tmp_path, rest=with_plugins(tmp_path, {"closed.py": broken}), workers=2)
    try:
        server.spawn()
        assert server.process.wait(60) == 1
    finally:
        server.kill()
    told = server.log_file.read_text()
    place = f"{tmp_path}/plugins/closed.py:8"
    text = f"{place}: plugin closed: there is no hook on_mail_form; did you mean on_mail_from?"
    assert told.split("\n").count(text) == 1
    assert not server.events("worker_restarted")
    checked = server.cli("check", check=False)
    assert checked.returncode == 1
    assert text in checked.stdout


HISTORY = """
from elemta.plugins import Metadata, Plugin, Result


class History(Plugin):
    metadata = Metadata(name="history", version="1.0.0")

    def on_config_loaded(self, ctx): ctx.log.info(f"{ctx.hook} {ctx.hostname}")
    def on_server_starting(self, ctx): ctx.log.info(ctx.hook)
    def on_server_started(self, ctx): ctx.log.info(ctx.hook)
    def on_server_stopping(self, ctx): ctx.log.info(ctx.hook)
    def on_server_stopped(self, ctx): ctx.log.info(ctx.hook)
    def on_config_changed(self, ctx):
        ctx.log.info(f"{ctx.hook} {ctx.changed}")
        if "smtp.max_received" in ctx.changed:
            return Result.reject(note="not on a Friday")
    async def on_security_event(self, ctx): ctx.log.info(f"{ctx.hook} {ctx.kind}")
"""


def said(server, plugin):
    return [event["text"] for event in server.events("plugin_logged") if event["plugin"] == plugin]


def order(server, verb, name="") -> Carried:
    config = load(server.config, {})
    return asyncio.run(order_workers(config, PluginOrder(verb, name), SystemClock()))


def test_the_life_of_the_server(tmp_path):
    with running(tmp_path, rest=with_plugins(tmp_path, {"history.py": HISTORY})) as server:
        with Dialogue(server.port) as client:
            client.send(b"GET / HTTP/1.1\r\n")
            assert client.reply().startswith("5")
        server.wait_for(lambda: "on_security_event cross_protocol" in said(server, "history"), "it")
        assert server.stop() == 0
        assert said(server, "history") == [
            "on_config_loaded mail.example.test",
            "on_server_starting",
            "on_server_started",
            "on_security_event cross_protocol",
            "on_server_stopping",
            "on_server_stopped",
        ]


WITNESS = """
import asyncio
import json

from elemta.plugins import Metadata, Plugin, Settings


class Place(Settings):
    port: int = 0


class Witness(Plugin[Place]):
    metadata = Metadata(name="witness", version="1.0.0")
    Settings = Place

    async def look(self, ctx):
        facts = [ctx.hostname, ctx.version, ctx.worker]
        patience = 10 if ctx.hook == "on_server_started" else 0.3
        ctx.log.info(json.dumps([ctx.hook, await self.try_server(patience), *facts]))

    async def try_server(self, patience):
        async def greeting():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.settings.port)
            try:
                return (await reader.readline())[:4].decode()
            finally:
                writer.close()
        try:
            return await asyncio.wait_for(greeting(), patience)
        except (OSError, TimeoutError):  # refused, or in the line of those whom nobody accepts
            return ""

    async def on_config_loaded(self, ctx): await self.look(ctx)
    async def on_server_starting(self, ctx): await self.look(ctx)
    async def on_server_started(self, ctx): await self.look(ctx)
    async def on_server_stopping(self, ctx): await self.look(ctx)
    async def on_server_stopped(self, ctx): await self.look(ctx)
    def on_connect(self, ctx): ctx.log.info(json.dumps([ctx.hook, ctx.session.session_id]))
    def on_disconnect(self, ctx): ctx.log.info(json.dumps([ctx.hook, ctx.session.session_id]))
    def on_security_event(self, ctx):
        facts = [ctx.kind, ctx.detail, ctx.session_id, ctx.client_ip]
        ctx.log.info(json.dumps([ctx.hook, *facts]))
"""


def test_where_in_the_life_of_the_server_plugins_are_asked(tmp_path):
    """Before it listens, when it does, before it closes what is open, and after that."""
    server = Elemta(tmp_path)
    server.rest = with_plugins(
        tmp_path, {"witness.py": WITNESS}, f"[plugins.witness]\nport = {server.port}\n"
    )
    try:
        server.start()
        server.wait_for(lambda: "on_server_started" in str(said(server, "witness")), "its look")
        with Dialogue(server.port, source="127.0.0.7") as client:
            client.hello()
            assert server.stop() == 0
            assert client.reply().startswith("421")
        told = [json.loads(text) for text in said(server, "witness")]
        about = ["mail.example.test", __version__, 0]
        life = [each for each in told if len(each) == 5 and each[0] != "on_security_event"]
        assert life == [
            ["on_config_loaded", "", *about],
            ["on_server_starting", "", *about],
            ["on_server_started", "220 ", *about],
            ["on_server_stopping", "", *about],
            ["on_server_stopped", "", *about],
        ]
        [accepted] = server.wait_event("connection_accepted", client_ip="127.0.0.7")
        session = accepted["session_id"]
        order = [each[0] for each in told if each in life[3:] or each[1] == session]
        assert order == ["on_connect", "on_server_stopping", "on_disconnect", "on_server_stopped"]
    finally:
        server.kill()


def test_what_a_security_event_is_about(tmp_path):
    with running(tmp_path, rest=with_plugins(tmp_path, {"witness.py": WITNESS})) as server:
        with Dialogue(server.port, source="127.0.0.7") as client:
            client.send(b"GET / HTTP/1.1\r\n")
            assert client.reply().startswith("5")
        (event,) = server.wait_event("security_event")

        def told():
            found = [json.loads(text) for text in said(server, "witness")]
            return [each[1:] for each in found if each[0] == "on_security_event"]

        server.wait_for(told, "the plugin")
        assert server.stop() == 0
        session = server.wait_event("connection_accepted", client_ip="127.0.0.7")[0]["session_id"]
        assert told() == [["cross_protocol", event["detail"], session, "127.0.0.7"]]


@pytest.mark.parametrize("hook", ["on_server_starting", "on_config_loaded"])
def test_a_plugin_may_refuse_that_the_server_starts(tmp_path, hook):
    text = CLOSED.replace("on_mail_from", hook).replace('"We are closed"', 'note="no licence"')
    server = Elemta(tmp_path, rest=with_plugins(tmp_path, {"closed.py": text}))
    try:
        server.spawn()
        assert server.process.wait(60) == 1
    finally:
        server.kill()
    assert "plugin closed: refuses" in server.log_file.read_text()
    assert "no licence" in server.log_file.read_text()


def test_a_plugin_may_refuse_a_new_configuration(tmp_path):
    rest = with_plugins(tmp_path, {"history.py": HISTORY}) + "[smtp]\nmax_errors = 10\n"
    with running(tmp_path, rest=rest) as server:
        server.reload("max_errors = 10", "max_errors = 1\nmax_received = 10")
        [notice] = server.wait_event("notice")
        assert notice["subject"] == "worker 0 not reloaded"
        assert "plugin history: refuses" in notice["detail"]
        assert "not on a Friday" in notice["detail"]
        with Dialogue(server.port) as client:
            assert client.say("BLAH").startswith("500")
            assert client.say("BLAH").startswith("500")  # max_errors is still 10
        server.reload("max_received = 10", "")
        server.wait_for(
            lambda: "on_config_changed ('smtp.max_errors',)" in said(server, "history"), "it"
        )


def test_plugins_come_go_and_change_on_sighup(tmp_path):
    settings = (
        CLOSED.replace(
            "    def on_mail",
            "    class Settings(Settings):\n        word: str = 'closed'\n\n    def on_mail",
        )
        .replace('"We are closed"', "self.settings.word")
        .replace("Result\n", "Result, Settings\n", 1)
    )
    rest = with_plugins(tmp_path, {}, '[plugins.closed]\nword = "shut"\n[smtp]\n')
    rest = rest.replace(
        "[plugins.closed]", "[[plugins.plugin]]\nname = 'closed'\nenabled = false\n[plugins.closed]"
    )
    with running(tmp_path, rest=rest) as server:
        assert mail_from(server.port).startswith("250")
        (tmp_path / "plugins" / "closed.py").write_text(settings)
        server.reload("enabled = false", "enabled = true")
        server.wait_event("plugin_changed", change="loaded")
        assert mail_from(server.port) == "550 5.7.1 shut"
        server.reload('word = "shut"', 'wrod = "gone"')
        [notice] = server.wait_event("notice")
        line = server.config.read_text().split("\n").index('wrod = "gone"') + 1
        place = f"{server.config}:{line}"
        assert "wrod: unknown setting; did you mean word?" in notice["detail"]
        assert place.rpartition(":")[0] in notice["detail"]
        assert mail_from(server.port) == "550 5.7.1 shut"
        server.reload('wrod = "gone"', 'word = "gone"')
        server.wait_event("plugin_changed", change="reloaded")
        assert mail_from(server.port) == "550 5.7.1 gone"
        (tmp_path / "plugins" / "closed.py").unlink()
        server.reload("enabled = true", "enabled = false")
        server.wait_event("plugin_changed", change="removed")
        assert mail_from(server.port).startswith("250")


def test_orders_reach_all_workers_and_open_sessions_keep_what_they_have(tmp_path):
    rest = with_plugins(tmp_path, {"closed.py": CLOSED})
    with running(tmp_path, rest=rest, workers=2) as server, Dialogue(server.port) as old:
        server.wait_event("worker_started", 2)
        old.hello()
        for verb, reply in ((PluginVerb.DISABLE, "250"), (PluginVerb.ENABLE, "550")):
            carried = order(server, verb, "closed")
            assert (carried.count, carried.errors, carried.silent) == (2, [], [])
            for _ in range(8):  # either worker
                assert mail_from(server.port).startswith(reply)
        (tmp_path / "plugins" / "closed.py").write_text("x = (")
        carried = order(server, PluginVerb.RELOAD)
        assert len(carried.errors) == 2
        (tmp_path / "plugins" / "closed.py").write_text(CLOSED.replace("We are", "Still"))
        carried = order(server, PluginVerb.RELOAD, "closed")
        assert carried.errors == []
        assert mail_from(server.port) == "550 5.7.1 Still closed"
        assert old.say("MAIL FROM:<a@example.org>") == "550 5.7.1 We are closed"
        carried = order(server, PluginVerb.ENABLE, "clsoed")
        assert carried.errors == [
            f"worker {index}: there is no plugin clsoed; did you mean closed?" for index in (0, 1)
        ]

        def listed():
            listings = read_listings(server.state)
            calls = [each[0].hooks["on_mail_from"].calls for each in listings.values() if each]
            return len(calls) == 2 and sum(calls) >= 9

        server.wait_for(listed, "the lists of plugins")
        assert server.stop() == 0
    assert order(server, PluginVerb.RELOAD).silent == ["the server, which does not run,"]


def test_a_file_that_is_dropped_into_the_folder_works_at_once(tmp_path):
    rest = with_plugins(tmp_path, {}, "hot_reload = true\n")
    with running(tmp_path, rest=rest) as server:
        assert mail_from(server.port).startswith("250")
        path = tmp_path / "plugins" / "closed.py"
        path.write_text(CLOSED)
        server.wait_event("plugin_changed", change="loaded")
        assert mail_from(server.port) == "550 5.7.1 We are closed"
        path.write_text("x = (")
        [event] = server.wait_event("plugin_changed", change="reload failed")
        assert f"{path}:1: not valid Python" in event["error"]
        assert mail_from(server.port) == "550 5.7.1 We are closed"
        path.write_text(CLOSED.replace("We are", "Still"))
        server.wait_event("plugin_changed", change="reloaded")
        assert mail_from(server.port) == "550 5.7.1 Still closed"


def test_reload_with_many_sessions_open_drops_none(tmp_path):
    rest = with_plugins(tmp_path, {"closed.py": CLOSED})
    with running(tmp_path, rest=rest) as server:
        sessions = [Dialogue(server.port) for _ in range(50)]
        try:
            (tmp_path / "plugins" / "closed.py").write_text(CLOSED.replace("We are", "Still"))
            assert order(server, PluginVerb.RELOAD, "closed").errors == []
            for session in sessions:
                session.hello()
                assert session.say("MAIL FROM:<a@example.org>") == "550 5.7.1 We are closed"
            assert mail_from(server.port) == "550 5.7.1 Still closed"
        finally:
            for session in sessions:
                session.socket.close()
        calls = 'elemta_plugin_calls_total{hook="on_mail_from",plugin="closed"}'
        other = 'elemta_plugin_calls_total{plugin="closed",hook="on_mail_from"}'
        server.wait_for(lambda: server.metric(calls) + server.metric(other) == 51, "the metric")


def test_a_worker_that_cannot_load_plugins_again_is_tried_again(tmp_path):
    rest = with_plugins(tmp_path, {"closed.py": CLOSED})
    with running(tmp_path, rest=rest) as server:
        [started] = server.wait_event("worker_started")  # however short its life will be
        path = tmp_path / "plugins" / "closed.py"
        path.write_text("x = (")
        os.kill(started["pid"], signal.SIGKILL)
        server.wait_event("worker_restarted", status="exit status 78")
        path.write_text(CLOSED)
        server.wait_event("worker_started", 2)
        assert mail_from(server.port) == "550 5.7.1 We are closed"


PICKY = """
from elemta.plugins import Metadata, Plugin, Result


class Picky(Plugin):
    metadata = Metadata(name="picky")

    def on_config_changed(self, ctx):
        if ctx.worker in WORKERS:
            return Result.reject(note="not on a Friday")
"""


@pytest.mark.parametrize(
    ("workers", "applied", "error"),
    [
        ("()", ["smtp.max_errors"], None),
        ("(1,)", ["smtp.max_errors"], "worker 1 refuses it, as the log says"),
        (
            "(0, 1)",
            [],
            "worker 0 refuses it, as the log says; worker 1 refuses it, as the log says",
        ),
    ],
)
def test_what_workers_make_of_a_changed_configuration_is_told(tmp_path, workers, applied, error):
    plugin = PICKY.replace("WORKERS", workers)
    rest = with_plugins(tmp_path, {"picky.py": plugin}, "[smtp]\nmax_errors = 7\n")
    with running(tmp_path, rest=rest, workers=2) as server:
        server.wait_event("worker_started", 2)
        server.reload("max_errors = 7", "max_errors = 8")
        [event] = server.events("config_changed")
        assert event["applied"] == applied
        assert event.get("error") == error
        assert server.stop() == 0
        told = [each["detail"] for each in server.events("notice")]
        assert len(told) == workers.count("0") + workers.count("1")
        assert all("not on a Friday" in each for each in told)


def test_workers_of_a_server_that_was_killed_are_not_listed(tmp_path):
    rest = with_plugins(tmp_path, {"closed.py": CLOSED})
    with running(tmp_path, rest=rest) as server:
        server.wait_for(lambda: read_listings(server.state), "the list")
        server.kill()
        left = server.state / "run" / "plugins-0.json"
        left.rename(left.with_stem("plugins-1"))  # there were more of them
        server.start()
        server.wait_for(lambda: 0 in read_listings(server.state), "the list")
        assert list(read_listings(server.state)) == [0]
        assert server.stop() == 0
