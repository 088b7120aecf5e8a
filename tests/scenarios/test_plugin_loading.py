"""Plugins on the running server: found, loaded, refused, reloaded."""

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running

CLOSED = '''
from elemta.plugins import Metadata, Plugin, Result


class Closed(Plugin):
    metadata = Metadata(name="closed", version="1.0.0")

    def on_mail_from(self, ctx):
        return Result.reject("We are closed")
'''


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
        assert server.process.wait(20) == 1
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
