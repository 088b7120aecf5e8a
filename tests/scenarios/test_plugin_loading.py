"""Plugins on the running server: found, loaded, refused, reloaded."""

from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running

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
