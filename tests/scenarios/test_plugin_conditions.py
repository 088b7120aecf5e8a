"""Conditions of plugins in the running server: whom they are asked about, and what is refused."""

import json
import textwrap

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running

CLOSED = """
    from elemta.plugins import Metadata, Plugin, Result

    class Closed(Plugin):
        metadata = Metadata(name="closed")

        def on_mail_from(self, ctx):
            return Result.reject("closed")
"""
CONFIG = """
[plugins]
directory = {folder}
[[plugins.plugin]]
name = "closed"
when = {when}
"""


def configured(folder, when):
    plugins = folder / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "closed.py").write_text(textwrap.dedent(CLOSED))
    (plugins / "closed.py").chmod(0o644)
    return MAILDIR + CONFIG.format(folder=json.dumps(str(plugins)), when=json.dumps(when))


def mail_from(client, helo):
    assert client.say(f"EHLO {helo}").startswith("250")
    reply = client.say("MAIL FROM:<a@b.test>")
    client.say("RSET")
    return reply[:3]


def test_it_is_asked_where_the_expression_is_true_and_follows_the_session(tmp_path):
    when = 'listener == "mta" && helo.endsWith(".bad.test") && in_network(client_ip, "127.0.0.0/8")'
    with running(tmp_path, rest=configured(tmp_path, when)) as elemta:
        with Dialogue(elemta.port) as client:
            names = ("good.test", "a.bad.test", "good.test", "b.bad.test")
            assert [mail_from(client, name) for name in names] == ["250", "550", "250", "550"]
        shown = json.loads(elemta.cli("plugins", "config", "closed", "--json").stdout)
        assert shown["asked"]["when"] == when


def test_it_changes_on_reload_and_a_wrong_one_changes_nothing(tmp_path):
    with running(tmp_path, rest=configured(tmp_path, "helo == 'x.test'")) as elemta:
        with Dialogue(elemta.port) as client:
            assert mail_from(client, "x.test") == "550"
        elemta.reload("helo == 'x.test'", "hello == 'y.test'")
        [notice] = elemta.wait_event("notice")
        line = elemta.config.read_text().split("\n").index("[[plugins.plugin]]") + 1
        told = "plugin closed: when: there is no fact hello; did you mean helo?"
        assert f"{elemta.config}:{line}: {told}" in notice["detail"]
        with Dialogue(elemta.port) as client:
            assert mail_from(client, "x.test") == "550"
        elemta.reload("hello == 'y.test'", "helo == 'y.test'")

        def has_changed():
            with Dialogue(elemta.port) as client:
                return mail_from(client, "y.test") == "550"

        elemta.wait_for(has_changed, "the new condition")
        with Dialogue(elemta.port) as client:
            assert mail_from(client, "x.test") == "250"


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        ("!trused", "when: there is no fact trused; did you mean trusted?"),
        ("helo > 1", "when: No such overload"),
        ("helo ==", "when: line 1, column 8: syntax error"),
    ],
)
def test_a_wrong_one_stops_the_start(tmp_path, when, problem):
    elemta = Elemta(tmp_path, rest=configured(tmp_path, when))
    elemta.write_config()
    checked = elemta.cli("check", check=False)
    assert checked.returncode == 1
    assert f"plugin closed: {problem}" in checked.stdout + checked.stderr
    elemta.spawn()
    assert elemta.process.wait(60) == 1
    assert f"plugin closed: {problem}" in elemta.log_file.read_text()


def test_what_fails_for_a_session_makes_it_wait(tmp_path):
    when = "size(helo) < 12 && 1 / (size(helo) - 11) > 0"
    with running(tmp_path, rest=configured(tmp_path, when)) as elemta:
        with Dialogue(elemta.port) as client:
            assert mail_from(client, "a.test") == "250"
            assert mail_from(client, "a" * 6 + ".test") == "451"
        [failure] = elemta.wait_event("plugin_error")
        assert failure["plugin"] == "closed"
        assert "division by zero" in failure["error"]
