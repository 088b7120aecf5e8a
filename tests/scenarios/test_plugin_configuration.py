"""Plugins on the running server, configured in each of the ways in which that has been written."""

import pytest
from plugins.remote.gcc import EXAMPLES, build
from servers.clamd import EICAR, VIRUS
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running

NAMED = """
from elemta.plugins import Metadata, Plugin, Result, Settings


class Named(Plugin):
    metadata = Metadata(name="{name}", version="1.0.0")

    class Settings(Settings):
        socket: str = ""
        url: str = ""
        timeout: int = 0
        selector: str = ""
        private_key: str = ""

    def on_mail_from(self, ctx):
        ctx.log.info("asked")

    def on_rcpt_to(self, ctx):
        if ctx.recipient.local == "{name}":
            return Result.reject(" ".join(f"{{k}}={{v}}" for k, v in self.settings if v) or "none")
"""
NAMES = """
[plugins]
enabled = true
directory = "/app/plugins"
plugins = [
    "clamav",
    "rspamd", 
    "dkim",
    "spf",
    "dmarc"
]

[plugins.clamav]
socket = "/var/run/clamav/clamd.ctl"
timeout = 30

[plugins.rspamd]
url = "http://rspamd:11333"
timeout = 10

[plugins.dkim]
selector = "default"
private_key = "/app/keys/dkim.key"
"""  # noqa: W291 - as it was first written


def write(folder, **plugins):
    """A folder with these plugins."""
    folder /= "plugins"
    folder.mkdir(mode=0o755)
    for name, text in plugins.items():
        (folder / f"{name}.py").write_text(text)
        (folder / f"{name}.py").chmod(0o644)
    return folder


def say(server, *names):
    """The replies to MAIL and RCPT."""
    with Dialogue(server.port) as client:
        client.hello()
        return client.envelope("a@b.test", *(f"{name}@example.test" for name in names))


def test_a_list_of_names_with_a_table_for_each(tmp_path, monkeypatch):
    names = ("clamav", "rspamd", "dkim", "spf", "dmarc")
    folder = write(tmp_path, **{name: NAMED.format(name=name) for name in names})
    monkeypatch.setenv("ELEMTA_PLUGINS__DIRECTORY", str(folder))
    with running(tmp_path, rest=MAILDIR + NAMES) as server:
        assert say(server, *names) == [
            "250 2.1.0 Sender ok",
            "550 5.7.1 socket=/var/run/clamav/clamd.ctl timeout=30",
            "550 5.7.1 url=http://rspamd:11333 timeout=10",
            "550 5.7.1 selector=default private_key=/app/keys/dkim.key",
            "550 5.7.1 none",
            "550 5.7.1 none",
        ]
        asked = [event["plugin"] for event in server.wait_event("plugin_logged", len(names))]
        assert asked == list(names)


NOBODY = """
[plugins]
directory = "/app/plugins"        # Not used (.so plugins disabled)
enabled = []                      # No external plugins
"""


def test_an_empty_list_of_names_loads_nothing_that_lies_in_the_folder(tmp_path, monkeypatch):
    folder = write(tmp_path, dkim=NAMED.format(name="dkim"), broken="x = (")
    monkeypatch.setenv("ELEMTA_PLUGINS__DIRECTORY", str(folder))
    with running(tmp_path, rest=MAILDIR + NOBODY) as server:
        assert say(server, "dkim")[1].startswith("250")
        assert not server.events("plugin_changed")
        server.reload("enabled = []", 'enabled = ["dkim"]')
        server.wait_event("plugin_changed", change="loaded", plugin="dkim")
        assert say(server, "dkim")[1] == "550 5.7.1 none"


LIBRARIES = """
[plugins]
enabled = true
directory = "./plugins"
auto_load = true

[[plugins.plugin]]
name = "spam-filter"
enabled = true
library = "libspam_filter.so"
config = '''
{
  "spam_threshold": 5.0,
  "quarantine": true
}
'''

[[plugins.plugin]]
name = "virus-scanner"
enabled = true
library = "libvirus_scanner.so"
config = '''
{
  "clamav_socket": "/var/run/clamav/clamd.sock"
}
'''
"""
SPAM = b"Subject: winner\r\n\r\nviagra casino winner free money click here\r\n"


def with_libraries(folder, socket, config=LIBRARIES):
    """A folder with both libraries, made for that socket; the rest of its configuration."""
    plugins = folder / "plugins"  # what is relative is so to the configuration
    plugins.mkdir(mode=0o755, parents=True)
    build(EXAMPLES / "spam_filter.c", plugins)
    build(EXAMPLES / "virus_scanner.c", plugins, f'-DCLAMD_SOCKET="{socket}"')
    return MAILDIR + config.replace("{", "{{").replace("}", "}}")


def test_libraries_with_settings_as_json(tmp_path, clamd):
    config = LIBRARIES.replace("/var/run/clamav/clamd.sock", str(clamd.socket))
    with running(tmp_path, rest=with_libraries(tmp_path, clamd.socket, config)) as server:
        for content, plugin, reason in (
            (SPAM, "spam-filter", "5.0"),
            (b"\r\n" + EICAR + b"\r\n", "virus-scanner", VIRUS),
        ):
            queue_id = server.send("a@b.test", "kept@example.test", content=content)
            (event,) = server.wait_event("message_quarantined", queue_id=queue_id)
            assert (event["plugin"], event["reason"]) == (plugin, reason)
        server.send("a@b.test", "c@example.test", content=b"Subject: hello\r\n\r\nhello\r\n")
        assert b"\nX-Spam-Score: 0.0\r\n" in server.wait_mail("c")[0]
        assert server.mailbox("kept") == []


@pytest.mark.parametrize("socket", ["/var/run/clamav/clamd.sock", "/elsewhere/clamd.sock"])
def test_a_library_is_configured_as_it_was_made(tmp_path, socket):
    server = Elemta(tmp_path, rest=with_libraries(tmp_path, socket))
    try:
        if socket in LIBRARIES:
            server.start()
            loaded = server.wait_event("plugin_changed", 2, change="loaded")
            assert [each["plugin"] for each in loaded] == ["spam-filter", "virus-scanner"]
        else:
            server.spawn()
            assert server.process.wait(60) == 1
            (notice,) = server.events("notice")
            assert "plugin virus-scanner: setup: " in notice["detail"]
            assert "init has returned 1" in notice["detail"]
    finally:
        server.kill()


LIMITER = """
[plugins]
directory = "./plugins"
[[plugins.plugin]]
name = "rate-limiter"
library = "librate_limiter.so"
config = '{{ "limit": 2 }}'
"""


def test_a_library_that_limits_messages(tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    build(EXAMPLES / "rate_limiter.c", plugins)
    with running(tmp_path, rest=MAILDIR + LIMITER) as server, Dialogue(server.port) as client:
        client.hello()
        replies = [client.deliver(b"\r\n", "a@b.test", "c@example.test") for _ in range(3)]
        replies.append(client.deliver(b"\r\n", "a@other.test", "c@example.test"))
        replies.append(client.deliver(b"\r\n", "", "c@example.test"))
        assert [reply[:3] for reply in replies] == ["250", "250", "451", "250", "250"]
        server.wait_mail("c", 4)
