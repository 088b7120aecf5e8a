"""`elemta check`: what the file says, and what this machine is like."""

import fcntl
import json
import os
import socket
import ssl
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from servers.certificates import Authority

from elemta.cli.main import cli
from elemta.net.tls import openssl

BASE = """
[server]
hostname = "mx.example.test"
state_dir = "var"
[[listeners]]
address = "127.0.0.1:0"
[metrics]
listen = ""
[smtp]
max_connections = 50
[queue]
min_free_space = "1B"
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(text: str, *arguments: str, env: dict[str, str] | None = None) -> Result:
        Path("elemta.toml").write_text(text)
        return CliRunner().invoke(cli, ["check", "-c", "elemta.toml", *arguments], env=env)

    return run


def lines(result: Result) -> list[str]:
    return result.output.rstrip("\n").split("\n")


def test_nothing_is_wrong(check):
    result = check(BASE)
    assert (result.exit_code, result.output) == (0, "elemta.toml: fine\n")
    assert not Path("var").exists()


def test_warnings_do_not_fail(check):
    result = check(BASE.replace("mx.example.test", "mx"))
    assert result.exit_code == 0
    assert lines(result)[-1] == "elemta.toml: 0 errors, 1 warning"
    assert ": warning: " in result.output


def test_all_errors_are_told(check):
    result = check(BASE + '[relay]\ntrusted_networks = ["0.0.0.0/0"]\n[logging]\nlevl = "info"\n')
    assert result.exit_code == 1
    assert "an open relay" in result.output
    assert "did you mean level?" in result.output
    assert lines(result)[-1] == "elemta.toml: 2 errors, 0 warnings"


def test_json(check):
    result = check(BASE + '[logging]\nlevel = "loud"\n', "--json")
    assert result.exit_code == 1
    assert json.loads(result.output) == {
        "ok": False,
        "file": "elemta.toml",
        "problems": [
            {
                "severity": "error",
                "where": "elemta.toml:14",
                "setting": "[logging] level",
                "text": '"loud": "debug", "info", "warning" or "error" is expected',
            }
        ],
    }
    assert json.loads(check(BASE, "--json").output)["ok"] is True


def test_the_file_may_be_named_by_a_variable(check):
    check(BASE)
    result = CliRunner().invoke(cli, ["check"], env={"ELEMTA_CONFIG": "elemta.toml"})
    assert result.output == "elemta.toml: fine\n"


def test_a_file_that_is_not_there(check):
    result = CliRunner().invoke(cli, ["check", "-c", "other.toml"])
    assert result.exit_code == 1
    assert lines(result)[0] == "other.toml: cannot be read: No such file or directory"


def test_controls_do_not_reach_the_terminal(check):
    result = check(BASE + '[logging]\nlevel = "\\u001b]0;owned\\u0007"\n')
    assert result.exit_code == 1
    assert "owned" in result.output
    assert "\x1b" not in result.output
    assert "\x07" not in result.output


def test_folders_that_cannot_be_used(check):
    Path("file").write_text("")
    result = check(
        BASE.replace('"var"', '"file/var"')
        + '[[routes]]\ndomains = ["*"]\nvia = "maildir"\npath = "file/{domain}/{local}"\n'
    )
    assert result.exit_code == 1
    here = Path.cwd()
    assert lines(result)[:2] == [
        f'elemta.toml:4: [server] state_dir: "file/var": {here}/file is not a folder',
        'elemta.toml:16: [[routes]] path: "file/{domain}/{local}": '
        f"{here}/file is not a folder",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folders_that_may_not_be_written(check):
    Path("sealed").mkdir(mode=0o500)
    result = check(BASE.replace('"var"', '"sealed/var"'))
    assert result.exit_code == 1
    assert f"cannot be made in {Path.cwd()}/sealed" in result.output


def test_a_queue_that_is_open_to_others(check):
    Path("var/queue").mkdir(parents=True)
    Path("var/queue").chmod(0o700)
    assert check(BASE).output == "elemta.toml: fine\n"
    Path("var/queue").chmod(0o750)
    result = check(BASE)
    assert result.exit_code == 0
    assert "others on this machine may look into the queue" in result.output


def test_too_little_room(check):
    disk = os.statvfs(".")
    free = disk.f_bavail * disk.f_frsize
    result = check(BASE.replace('"1B"', f'"{free + 10**12}B"'))
    assert result.exit_code == 1
    assert "[queue] min_free_space" in result.output
    assert "new mail would be refused" in result.output
    result = check(BASE.replace('"1B"', f'"{free * 3 // 4}B"'))
    assert result.exit_code == 0
    assert "are free in" in result.output


def test_ports_in_use(check):
    with socket.socket() as other, socket.socket() as another:
        for each in (other, another):
            each.bind(("127.0.0.1", 0))
            each.listen()
        ports = [each.getsockname()[1] for each in (other, another)]
        text = BASE.replace("127.0.0.1:0", f"127.0.0.1:{ports[0]}").replace(
            'listen = ""', f'listen = "127.0.0.1:{ports[1]}"'
        )
        result = check(text)
        assert result.exit_code == 1
        assert lines(result)[:2] == [
            f'elemta.toml:6: [[listeners]] address: "127.0.0.1:{ports[0]}": '
            "another program listens there",
            f'elemta.toml:8: [metrics] listen: "127.0.0.1:{ports[1]}": '
            "another program listens there",
        ]
        # they are ours where the server runs
        Path("var/run").mkdir(mode=0o700, parents=True)
        Path("var").chmod(0o700)
        with Path("var/run/lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert check(text).output == "elemta.toml: fine\n"
        assert check(text).exit_code == 1


def test_an_address_of_someone_else(check):
    result = check(BASE.replace("127.0.0.1:0", "192.0.2.1:2525"))
    assert result.exit_code == 1
    assert '"192.0.2.1:2525": not an address of this machine' in result.output


def test_unix_sockets(check, tmp_path):
    text = BASE + f'[[listeners]]\naddress = "unix:{tmp_path}/lmtp"\nkind = "lmtp"\n'
    assert check(text).output == "elemta.toml: fine\n"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/lmtp")
        assert check(text).exit_code == 0  # nobody listens: it was left behind
        server.listen()
        assert "another program listens there" in check(text).output
    (tmp_path / "lmtp").unlink()
    (tmp_path / "lmtp").write_text("")
    assert "there is a file of this name" in check(text).output
    assert "its folder cannot be used" in check(text.replace("/lmtp", "/none/lmtp")).output


def test_the_socket_for_users_of_this_machine(check, tmp_path):
    text = BASE + f'[submission]\nsocket = "{tmp_path}/submit"\n'
    assert check(text).output == "elemta.toml: fine\n"
    (tmp_path / "submit").write_text("")
    said = check(text).output
    assert "[submission] socket" in said
    assert "there is a file of this name" in said
    twice = f'[[listeners]]\naddress = "unix:{tmp_path}/submit"\nkind = "lmtp"\n'
    assert "a listener has this address already" in check(text + twice).output
    assert "longer than 107 octets" in check(text.replace("/submit", "/" + "x" * 107)).output


def test_limits_of_submission_that_make_no_sense(check):
    table = "[submission.{}]\nmessages_per_hour = {}\n"
    said = check(BASE + table.format("soft", 10) + table.format("hard", 5))
    assert said.exit_code == 0
    assert "[submission.soft] messages_per_hour: warning: 10: is more than the hard limit" in (
        said.output
    )
    text = BASE + '[submission]\npickup = "elsewhere"\nbcc = "keep"\n'
    assert "[submission] bcc" in check(text).output
    assert "has no effect without a socket" in check(text.replace('bcc = "keep"\n', "")).output


def test_a_mailbox_server_that_is_away(check):
    result = check(BASE + '[[routes]]\ndomains = ["*"]\nvia = "lmtp"\npath = "/no/such"\n')
    assert result.exit_code == 0
    assert '[[routes]] path: warning: "/no/such": there is no such socket now' in result.output


def test_too_few_open_files(check):
    result = check(BASE.replace("max_connections = 50", "max_connections = 100000000"))
    assert result.exit_code == 0
    assert "open files" in result.output


PLUGIN = """
from elemta.plugins import Metadata, Plugin


class Limits(Plugin):
    metadata = Metadata(name="limits", version="1.0.0")

    async def setup(self):
        raise SystemError("a check sets nothing up")

    def on_connect(self, ctx): ...
"""


def test_plugins_are_looked_at(check):
    Path("plugins").mkdir()
    Path("plugins/limits.py").write_text(PLUGIN)
    result = check(BASE)
    assert (result.exit_code, result.output) == (0, "elemta.toml: fine\n")
    Path("plugins/limits.py").write_text(PLUGIN.replace("on_connect", "on_conect"))
    result = check(BASE + '[[plugins.plugin]]\nname = "limts"\n')
    assert result.exit_code == 1
    assert lines(result) == [
        f"{Path.cwd()}/plugins/limits.py:11: plugin limits: there is no hook on_conect; did you "
        "mean on_connect?",
        "elemta.toml:13: plugin limts: there is no such plugin; did you mean limits?",
        "elemta.toml: 2 errors, 0 warnings",
    ]


def test_settings_of_a_plugin_that_is_not_loaded_are_a_warning(check):
    Path("plugins").mkdir()
    Path("plugins/limits.py").write_text(PLUGIN)
    result = check(BASE + "[plugins]\nauto_load = false\n[plugins.limits]\nx = 1\n")
    assert result.exit_code == 0
    assert lines(result) == [
        "elemta.toml:15: plugin limits: warning: has settings but is not loaded: name it in "
        "[plugins] plugins",
        "elemta.toml: 0 errors, 1 warning",
    ]


def test_plugins_in_processes_of_their_own_are_asked_who_they_are(check):
    Path("plugins").mkdir()
    Path("plugins/limits.py").write_text(PLUGIN)
    isolated = '[[plugins.plugin]]\nname = "limits"\nisolation = "process"\n'
    result = check(BASE + isolated)
    assert (result.exit_code, result.output) == (0, "elemta.toml: fine\n")
    Path("plugins/limits.py").write_text(PLUGIN.replace("on_connect", "on_conect"))
    result = check(BASE + isolated)
    assert result.exit_code == 1
    assert "did you mean on_connect?" in result.output


def test_what_works_only_in_the_worker(check):
    names = ("milter", "policy-delegation", "spf")
    tables = [f'[[plugins.plugin]]\nname = "{name}"\nisolation = "process"' for name in names]
    result = check(BASE + "[authentication]\nspf_enabled = true\n" + "\n".join(tables))
    assert result.exit_code == 1
    first = 1 + (BASE + "[authentication]\nspf_enabled = true\n").count("\n")
    assert sorted(lines(result)[:-1]) == [
        f'elemta.toml:{first + 3 * at}: plugin {name}: works only in the worker: isolation = "none"'
        for at, name in enumerate(names)
    ]


class TestCertificates:
    TLS = BASE + '[tls]\ncertificate = "certificate.pem"\nkey = "certificate.key"\n'

    def test_what_is_wrong_is_told_at_its_line(self, check, tmp_path):
        issued = Authority(tmp_path).issue("mx.example.test")
        assert lines(check(self.TLS)) == ["elemta.toml: fine"]
        issued.key_file.chmod(0o644)
        (problem, verdict) = lines(check(self.TLS))
        line = self.TLS.split("\n").index('key = "certificate.key"') + 1
        assert problem.startswith(f'elemta.toml:{line}: [tls] key: "certificate.key": others on')
        assert verdict == "elemta.toml: 1 error, 0 warnings"

    def test_further_ones_too(self, check, tmp_path):
        authority = Authority(tmp_path)
        authority.issue("mx.example.test")
        authority.issue("mail.example.org", key="rsa1024", file="other")
        text = self.TLS + '[[tls.certificates]]\ncertificate = "other.pem"\nkey = "other.key"\n'
        problem = lines(check(text))[0]
        assert '[[tls.certificates]] certificate: "other.pem": the key is RSA of 1024' in problem

    def test_groups_that_openssl_does_not_know(self, check, tmp_path):
        Authority(tmp_path).issue("mx.example.test")
        problem = lines(check(self.TLS + 'groups = ["X25519", "P-255"]\n'))[0]
        assert "[tls] groups: " in problem
        assert problem.endswith("has no group P-255")

    @pytest.fixture
    def hidden(self, monkeypatch):
        monkeypatch.setattr(openssl, "_library", lambda: None)
        openssl.knows_group.cache_clear()
        yield
        openssl.knows_group.cache_clear()

    @pytest.mark.usefixtures("hidden")
    def test_a_python_that_hides_its_openssl(self, check, tmp_path):
        Authority(tmp_path).issue("mx.example.test")
        problem, verdict = lines(check(self.TLS))
        assert "[tls] strict_alpn: warning: has no effect" in problem
        assert verdict == "elemta.toml: 0 errors, 1 warning"
        result = check(self.TLS + 'client_certificates = "request"\n')
        assert result.exit_code == 1
        assert '"request" is not possible with this Python' in result.output
        if not hasattr(ssl.SSLContext, "set_groups"):
            assert "groups cannot be chosen" in check(self.TLS + 'groups = ["X25519"]\n').output
