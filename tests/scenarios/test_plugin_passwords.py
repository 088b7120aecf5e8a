"""Plugins that decide on logins without accounts, and passwords that nobody else gets to see."""

import textwrap
from base64 import b64encode

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.logins import plain, submission
from servers.puppet import Puppet

CANARY = "canary-7h3-p455w0rd"
CLEAR = "clear_auth = true\n"
BARE = MAILDIR + "[auth]\nmechanisms = ['PLAIN', 'LOGIN', 'CRAM-MD5', 'SCRAM-SHA-256']\n"
MAIL = b"Subject: hello\r\n\r\nhello\r\n"
KEEPER = """
    from elemta.plugins import Metadata, Plugin, Result, Settings

    class Keeper(Plugin[Settings]):
        metadata = Metadata(name="keeper")

        def on_auth_start(self, ctx):
            right = ctx.username == "me@example.test" and ctx.password == "opensesame"
            return Result.accept() if right else Result.reject("Who are you?")
"""


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / name).write_text(textwrap.dedent(text))
    (folder / name).chmod(0o644)


class TestWithoutAccounts:
    @pytest.fixture
    def server(self, tmp_path):
        write(tmp_path / "plugins", "keeper.py", KEEPER)
        port, listener = submission()
        with running(tmp_path, rest=BARE, listeners=listener) as elemta:
            elemta.submission = port
            yield elemta

    def test_a_plugin_lets_in(self, server):
        with Dialogue(server.submission) as client:
            assert "250-AUTH PLAIN LOGIN\n" in client.hello()
            assert client.say("MAIL FROM:<me@example.test>").startswith("530")
            assert client.say("AUTH SCRAM-SHA-256 biwsbj1tZSxyPXg=").startswith("504")
            assert client.say(plain("me@example.test", "wrong")) == "535 5.7.1 Who are you?"
            assert client.say(plain("me@example.test", "opensesame")).startswith("235")
            reply = client.deliver(MAIL, "me@example.test", "you@far.test")
            assert reply.startswith("250")
        known = server.wait_event("auth_succeeded")[0]
        assert (known["username"], known["mechanism"]) == ("me@example.test", "PLAIN")

    def test_three_that_it_refuses_are_too_many(self, server):
        with Dialogue(server.submission) as client:
            client.hello()
            for _ in range(2):
                assert client.say(plain("me@example.test", "wrong")).startswith("535")
            assert client.say(plain("me@example.test", "wrong")).startswith("421 4.7.0 Too many")
            assert client.line() == ""

    def test_without_the_plugin_it_is_not_offered(self, server):
        def is_offered():
            with Dialogue(server.submission) as client:
                return "AUTH" in client.hello()

        assert is_offered()
        server.cli("plugins", "disable", "keeper")
        server.wait_for(lambda: not is_offered(), "the end of AUTH")
        with Dialogue(server.submission) as client:
            client.hello()
            assert client.say(plain("me@example.test", "opensesame")).startswith("502")
        server.cli("plugins", "enable", "keeper")
        server.wait_for(is_offered, "AUTH")

    def test_the_operator_is_warned_only(self, server):
        said = server.cli("check")
        assert "unless a plugin has on_auth_start" in said.stdout + said.stderr

    def test_a_hook_that_comes_after_is_not_enough(self, tmp_path):
        write(tmp_path / "plugins", "keeper.py", KEEPER.replace("on_auth_start", "on_auth"))
        port, listener = submission()
        with running(tmp_path, rest=BARE, listeners=listener), Dialogue(port) as client:
            assert "AUTH" not in client.hello()


DEEDS = {
    "raise": ["raise"],
    "late": ["async", "raise"],
    "hang": ["async", "hang"],
    "nonsense": ["nonsense"],
    "reject": ["reject", "No"],
    "defer": ["defer", "Later"],
    "accept": ["accept"],
    "quarantine": ["quarantine"],
}


@pytest.mark.parametrize("mode", ["active", "shadow"])
def test_no_password_is_written_anywhere(tmp_path, mode):
    """Whatever plugins do with it that is not to write it down themselves."""
    answers = {
        f"{hook}:{name}.{hook}": deed
        for hook in ("on_auth_start", "on_auth")
        for name, deed in DEEDS.items()
    }
    puppet = Puppet(tmp_path / "beside", answers, mode=mode, timeout=0.3, log_level="debug")
    rest = BARE + '[[auth.sources]]\ntype = "sqlite"\n[limits.brake]\nenabled = false\n'
    port, listener = submission()
    with running(tmp_path / "server", rest=rest + puppet.config, listeners=listener) as elemta:
        replies = {}
        for name in (*DEEDS, "nothing"):
            for hook in ("on_auth_start", "on_auth"):
                login = f"{name}.{hook}"
                with Dialogue(port) as client:
                    client.hello()
                    replies[login] = client.say(plain(login, CANARY))[:3]
                with Dialogue(port) as client:
                    client.hello()
                    for line in ("AUTH LOGIN", b64encode(login.encode())):
                        assert client.say(line).startswith("334")
                    assert client.say(b64encode(CANARY.encode()))[:3] == replies[login]
        check_replies(replies, mode)
        begun = puppet.calls("on_auth_start")
        assert {call["password"] for call in begun} == {CANARY}
        assert {call["password"] for call in puppet.calls("on_auth")} == {""}
        others = [call for call in puppet.calls() if call["asked"] != "on_auth_start"]
        secrets = {CANARY, b64encode(CANARY.encode()).decode()}
        secrets |= {plain(login, CANARY).split()[2] for login in replies}
        assert not any(secret in str(call) for call in others for secret in secrets)
        kinds = {"active": "plugin_error", "shadow": "plugin_shadow"}
        elemta.wait_event(kinds[mode], 4)
        shown = elemta.cli("plugins", "info", "puppet", "--json").stdout
        texts = [shown, elemta.get("/metrics")[1]]
        assert elemta.stop() == 0
        files = [path for path in elemta.folder.rglob("*") if path.is_file()]
        texts += [path.read_bytes().decode("latin-1") for path in files]
        assert elemta.log_file in files
        for text in texts:
            assert not [secret for secret in secrets if secret in text]


def check_replies(replies, mode):
    failed = {"active": "454", "shadow": "535"}[mode]
    for name in ("raise", "late", "hang", "nonsense", "defer"):
        assert replies[f"{name}.on_auth_start"] == replies[f"{name}.on_auth"] == failed, name
    assert replies["accept.on_auth_start"] == {"active": "235", "shadow": "535"}[mode]
    assert replies["accept.on_auth"] == replies["nothing.on_auth"] == "535"
