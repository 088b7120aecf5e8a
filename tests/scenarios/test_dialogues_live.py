"""Every transcript of tests/dialogues over TCP, against servers whose policy is theirs."""

import pytest
from dialogues.transcript import is_reply, load, names
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.process import free_port

RELAY = """
[limits]
error_delay = 0
[relay]
local_domains = ["example.test"]
trusted_networks = ["127.0.0.5/32"]
[[routes]]
domains = ["*"]
via = "discard"
[smtp]
max_errors = 1000
max_junk_commands = 1000
"""
SPECIAL = """
bare_newlines = "normalise"
max_line = 1000
strict_sync = false
"""
LMTP = """
[[listeners]]
address = "127.0.0.1:{port}"
kind = "lmtp"
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A server with the defaults."""
    port = free_port()
    folder = tmp_path_factory.mktemp("plain")
    with running(folder, rest=RELAY, listeners=LMTP.format(port=port)) as elemta:
        elemta.lmtp_port = port
        elemta.wait_event("connection_closed")  # the look for the banner
        yield elemta


@pytest.fixture(scope="module")
def special(tmp_path_factory):
    """A server with all the settings that transcripts ask for."""
    folder = tmp_path_factory.mktemp("special")
    with running(folder, rest=RELAY + SPECIAL, server="max_message_size = 1024") as elemta:
        elemta.wait_event("connection_closed")
        yield elemta


class Live:
    """One session and what the server's log says of it."""

    def __init__(self, server, settings):
        self.server = server
        lmtp = settings.get("dialect") == "lmtp"
        # only trusted clients get their newlines mended
        source = "127.0.0.5" if "bare_newlines" in settings else "127.0.0.1"
        seen = len(server.events("connection_accepted"))
        self.client = Dialogue(server.lmtp_port if lmtp else server.port, source=source)
        assert self.client.banner.startswith("220 mail.example.test ")
        self.session = server.wait_event("connection_accepted", seen + 1)[-1]["session_id"]

    def reply(self):
        """The next reply as octets, b"" when the server has closed."""
        text = self.client.reply()
        return text.replace("\n", "\r\n").encode() + b"\r\n" if text else b""

    def messages(self):
        return [
            event
            for event in self.server.events("message_received")
            if event["session_id"] == self.session
        ]

    def check_messages(self, count):
        self.server.wait_for(lambda: len(self.messages()) >= count, f"{count} messages")
        assert len(self.messages()) == count


@pytest.mark.parametrize("name", names())
def test_dialogue(name, request):
    transcript = load(name)
    is_plain = transcript.settings.keys() <= {"dialect"}
    server = request.getfixturevalue("plain" if is_plain else "special")
    live = Live(server, transcript.settings)
    count, is_closed = None, False
    with live.client as client:
        for step in transcript.steps:
            where = f"{name}:{step.line}"
            if step.action == "send":
                client.send(step.data)
            elif step.action == "expect":
                reply = live.reply()
                assert is_reply(step.data, reply), f"{where}: expected {step.data!r}, got {reply!r}"
            elif step.action == "closed":
                assert client.rest() == b"", where
                is_closed = True
            else:
                count = int(step.data)
                live.check_messages(count)
        if not is_closed:
            assert client.say("QUIT").startswith("221"), f"{name}: not expected at the end"
            assert client.rest() == b""
    server.wait_event("connection_closed", session_id=live.session)
    if count is not None:
        live.check_messages(count)
