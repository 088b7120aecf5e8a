"""Plugins on the running server submit mail of their own."""

import json

import pytest
from servers.elemta import MAILDIR, running

PLUGIN = """
from elemta.mail.errors import PluginError
from elemta.plugins import *

LETTER = (
    b"From: <reports@mail.example.test>\\r\\nSubject: a report\\r\\n"
    b"\\r\\n.\\r\\n.dots\\r\\nno line end"
)

class Writing(Plugin[Settings]):
    metadata = Metadata(name="writing")

    async def on_mail_from(self, ctx):
        if ctx.session.username:
            self.tools.log.info(f"{ctx.session.username} submits on {ctx.session.listener}")
            return None
        try:
            await self.tools.mail.submit("", [f"{ctx.sender.local}@example.test"], LETTER)
        except PluginError as error:
            return Result.reject(str(error))
        return None

    async def on_rcpt_to(self, ctx):
        if ctx.recipient.local == "nobody":
            return Result.reject("there is nobody here")
"""
REST = (
    MAILDIR
    + """
[plugins]
directory = {plugins}
[[plugins.plugin]]
name = "writing"
isolation = "{isolation}"
"""
)


def start(tmp_path, isolation="none"):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "writing.py").write_text(PLUGIN)
    rest = REST.replace("{plugins}", json.dumps(str(plugins))).replace("{isolation}", isolation)
    return running(tmp_path / "server", rest=rest)


@pytest.fixture
def server(tmp_path):
    with start(tmp_path) as elemta:
        yield elemta


def test_mail_of_a_plugin_goes_the_way_of_all_mail(server):
    server.send("alice@elsewhere.test", "bob@example.test")
    letter = server.wait_mail("alice")[0]
    assert b"Subject: a report\r\n" in letter
    assert letter.endswith(b"\r\n\r\n.\r\n.dots\r\nno line end\r\n")
    assert b"\r\nDate: " in letter  # what is submitted is mended
    said = [event["text"] for event in server.wait_event("plugin_logged")]
    assert said == ["plugin:writing submits on submission"]


def test_what_is_refused_is_said_to_the_plugin(server):
    with pytest.raises(AssertionError, match=r"there is nobody here"):
        server.send("nobody@elsewhere.test", "bob@example.test")


def test_outside_of_the_worker_there_is_no_mail(tmp_path):
    refusal = pytest.raises(AssertionError, match=r"mail cannot be submitted here")
    with start(tmp_path, "process") as server, refusal:
        server.send("alice@elsewhere.test", "bob@example.test")
