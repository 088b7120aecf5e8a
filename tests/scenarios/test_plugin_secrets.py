"""Secrets of plugins in the running server: in variables and files, and shown to nobody."""

import json
import textwrap

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running

GUARD = """
    from elemta.plugins import Metadata, Plugin, Result, Settings

    class Words(Settings):
        password: str
        other: dict[str, list[str]] = {}

    class Guard(Plugin[Words]):
        metadata = Metadata(name="guard")
        Settings = Words

        def on_mail_from(self, ctx):
            known = [self.settings.password, *self.settings.other.get("words", [])]
            return None if str(ctx.sender.local) in known else Result.reject("not known")
"""
BESIDE = {
    "guard.toml": """
        password = "file:secret.txt"
        other = { words = ["env:GUARD_WORD", "plain"] }
    """,
    "guard.json": """
        {"password": "file:secret.txt", "other": {"words": ["env:GUARD_WORD", "plain"]}}
    """,
}


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARD_WORD", "swordfish")
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    for name, text in {"guard.py": GUARD, "secret.txt": "opensesame\n"}.items():
        (folder / name).write_text(textwrap.dedent(text))
        (folder / name).chmod(0o644)
    return folder


def configured(folder, more=""):
    return f"{MAILDIR}[plugins]\ndirectory = {json.dumps(str(folder))}\n{more}"


def write(folder, name, text):
    (folder / name).write_text(textwrap.dedent(text))
    (folder / name).chmod(0o644)


def is_known(port, local):
    with Dialogue(port) as client:
        client.hello()
        return client.say(f"MAIL FROM:<{local}@b.test>").startswith("250")


@pytest.mark.parametrize("name", BESIDE)
def test_beside_a_plugin_references_stand_for_what_they_do_elsewhere(tmp_path, plugins, name):
    write(plugins, name, BESIDE[name])
    with running(tmp_path, rest=configured(plugins)) as elemta:
        begun = elemta.log_file.read_text()
        names = ("opensesame", "swordfish", "plain", "file:secret.txt", "other")
        assert [is_known(elemta.port, each) for each in names] == [True, True, True, False, False]
        shown = elemta.cli("plugins", "config", "guard").stdout
        shown += elemta.cli("plugins", "config", "guard", "--json").stdout
        shown += elemta.cli("plugins", "info", "guard", "--json").stdout
        assert "file:secret.txt" in shown
        assert "env:GUARD_WORD" in shown
        for text in (shown, begun):
            assert "opensesame" not in text
            assert "swordfish" not in text


def test_what_the_configuration_refers_to_is_not_shown_either(tmp_path, plugins):
    table = '[plugins.guard]\npassword = "env:GUARD_WORD"\n'
    with running(tmp_path, rest=configured(plugins, table)) as elemta:
        assert is_known(elemta.port, "swordfish")
        shown = elemta.cli("plugins", "config", "guard").stdout
        assert 'password = "env:GUARD_WORD"' in shown
        assert "swordfish" not in shown


def test_a_changed_secret_counts_after_a_reload(tmp_path, plugins):
    write(plugins, "guard.toml", BESIDE["guard.toml"])
    with running(tmp_path, rest=configured(plugins)) as elemta:
        write(plugins, "secret.txt", "changed\n")
        assert is_known(elemta.port, "opensesame")
        elemta.cli("plugins", "reload", "guard")
        elemta.wait_for(lambda: is_known(elemta.port, "changed"), "the new secret")
        assert not is_known(elemta.port, "opensesame")
