"""A shared library on the running server is told of everything that has an event name, in order."""

from pathlib import Path

from plugins.remote.gcc import build
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running

SOURCE = Path(__file__).parents[1] / "servers" / "plugins" / "events.c"
CONFIG = """
[plugins]
directory = "./plugins"
[[plugins.plugin]]
name = "events"
library = "libevents.so"
[smtp]
max_errors = 10
"""
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
EVENTS = """\
14 config_loaded - - - -
16 server_starting - - - -
17 server_started - - - -
9 connection_opened - - - -
12 command_received EHLO - - -
13 command_validated EHLO - - -
12 command_received MAIL - - -
13 command_validated MAIL - - -
12 command_received RCPT - - -
13 command_validated RCPT - - -
12 command_received DATA - - -
13 command_validated DATA - - -
1 message_received - a@b.test c@example.test hello
2 message_validated - a@b.test c@example.test hello
3 message_filtered - a@b.test c@example.test hello
4 message_stored - a@b.test c@example.test -
5 message_delivered - a@b.test c@example.test -
12 command_received NOSUCH - - -
10 connection_closed - - - -
15 config_changed - - - -
18 server_stopping - - - -
19 server_stopped - - - -
"""


def test_every_event_comes_once_and_in_order(tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    build(SOURCE, plugins)
    with running(tmp_path, rest=MAILDIR + CONFIG) as server:

        def said() -> list[str]:
            return [event["text"] for event in server.events("plugin_logged")]

        def ended() -> bool:
            return said()[-1:] != [] and said()[-1].startswith("10 ")

        server.wait_for(ended, "the end of the look for a banner")
        probe = len(said())
        with Dialogue(server.port) as client:
            client.hello()
            assert client.deliver(MAIL, "a@b.test", "c@example.test").startswith("250")
            server.wait_for(lambda: said()[-1].startswith("5 "), "message_delivered")
            client.say("NOSUCH")
        server.wait_for(ended, "the end")
        server.reload("max_errors = 10", "max_errors = 11")
        server.wait_for(lambda: said()[-1].startswith("15 "), "config_changed")
        assert server.stop() == 0
        told = said()
    assert "\n".join([*told[:3], *told[probe:], ""]) == EVENTS
