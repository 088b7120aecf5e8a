"""`elemta quarantine`: who has looked, senders that are allowed, and what is learned from."""

import json
import os
import pwd
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from cli.spools import Letter, fill
from click.testing import CliRunner

from elemta.cli.main import cli
from elemta.cli.quarantine_report import attach
from elemta.mail.message import State
from elemta.queue import audit
from elemta.queue.audit import Audited

ME = pwd.getpwuid(os.getuid()).pw_name
WHY = "kept in quarantine by scanner (spam)"
CONTENT = b"Subject: win\r\n\r\nclick \xc3\xbc\r\n"


class Controller(BaseHTTPRequestHandler):
    """Answers as the controller of Rspamd does, by the path."""

    answers: ClassVar = {
        "/learnham": (200, b'{"success":true}'),
        "/learnspam": (208, b'{"error":"known"}'),
    }
    seen: ClassVar = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Password"], self.headers["From"], body))
        status, said = self.answers[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_args):
        pass


@pytest.fixture(scope="module")
def controller():
    server = HTTPServer(("127.0.0.1", 0), Controller)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


class Desk:
    def __init__(self, folder):
        self.folder, self.state = folder, folder / "var"
        self.config = folder / "elemta.toml"
        self.configure()
        kept = [("a@one.test", State.QUARANTINE)]
        self.spam, self.bounce, self.waiting = fill(
            self.state,
            Letter(kept, reply=WHY, content=CONTENT),
            Letter(kept, reply=WHY, sender=""),
            Letter([("c@one.test", State.DEFERRED)]),
        )

    def configure(self, quarantine=""):
        self.config.write_text(
            f'[server]\nhostname = "mx.test"\nstate_dir = "var"\n[quarantine]\n{quarantine}'
        )

    def run(self, *arguments, area="quarantine", status=0, env=None):
        result = CliRunner(env=env).invoke(cli, [area, *arguments, "-c", str(self.config)])
        assert result.exit_code == status, result.output
        return result

    def audited(self):
        found = json.loads(self.run("audit", "--json").stdout)
        assert all(re.fullmatch(r"20\d\d-.*Z", each["time"]) for each in found)
        assert {each["operator"] for each in found} <= {ME}
        return [(each["what"], each.get("queue_id", ""), each.get("detail", "")) for each in found]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_each_look_and_each_order_is_written_down(desk):
    spam = desk.spam
    env = {"LOGNAME": "somebody", "USER": "else", "SUDO_USER": ""}  # says nothing of who it is
    desk.run("list", "--sender", "*@x.test", env=env)
    desk.run("show", spam, "--preview", "4", env=env)
    desk.run("show", desk.waiting, area="queue")
    desk.run("show", desk.waiting, "--content", area="queue")
    desk.run("show", spam, area="queue")
    desk.run("show", spam, "--header", area="queue")
    desk.run("show", spam, "--content", area="queue")
    desk.run("release", spam, "--reason", "expected", "--dry-run")
    desk.run("release", spam, "--reason", "expected", env=env)
    desk.run("delete", "--all", "--yes")
    assert desk.audited() == [
        ("list", "", "sender=*@x.test"),
        ("preview", spam, "4 KiB"),
        ("header", spam, ""),
        ("content", spam, ""),
        ("release", spam, f"ids={spam}: expected"),
        ("delete", "", "all"),
    ]
    assert f"{ME}  preview  {spam}  4 KiB" in re.sub("  +", "  ", desk.run("audit").output)
    assert (desk.state / audit.NAME).stat().st_mode & 0o777 == 0o600


def test_sudo_says_who_has_called(desk, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    desk.run("list", env={"SUDO_USER": "anna"})
    (entry,) = audit.read(desk.state)
    assert entry.operator == "anna as root"


@pytest.mark.parametrize(
    ("area", "arguments"),
    [
        ("quarantine", ("list",)),
        ("quarantine", ("show", "ID")),
        ("quarantine", ("report", "ID", "--as", "ham")),
        ("quarantine", ("release", "ID")),
        ("queue", ("show", "ID", "--content")),
    ],
)
def test_nothing_is_shown_or_done_without_an_entry(desk, area, arguments):
    (desk.state / audit.NAME).mkdir()
    desk.configure('rspamd = "http://127.0.0.1:1"\n')
    arguments = [each.replace("ID", desk.spam) for each in arguments]
    result = desk.run(*arguments, area=area, status=75)
    assert "nothing is done without a record" in result.output
    assert "click" not in result.output
    shown = json.loads(desk.run("show", desk.spam, "--json", area="queue").stdout)
    assert shown["recipients"][0]["state"] == "quarantine"


def test_the_file_is_renamed_where_it_is_full_and_old_ones_go(tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "MAX_SIZE", 200)

    def write(number):
        audit.add(tmp_path, Audited(f"{number:03}", "anna", "list"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(100)))
    kept = [int(entry.time) for entry in audit.read(tmp_path)]
    assert len(kept) == len(set(kept)) >= 4 * 4
    assert len(list(tmp_path.iterdir())) == 1 + audit.OLD_FILES
    (tmp_path / audit.NAME).write_bytes(b'{"time":"1"}\nno json\n')
    assert len(list(audit.read(tmp_path))) < len(kept)


# ---- senders that are allowed


def test_a_sender_is_allowed_for_a_while_with_who_and_why(desk):
    desk.configure('allow_list = "allowed.txt"\n')
    allowed = desk.folder / "allowed.txt"
    allowed.write_text("first@x.test")  # without the end of its line
    desk.run("release", desk.spam, "--allow-sender", "--dry-run")
    assert allowed.read_text() == "first@x.test"
    desk.run("release", desk.spam, "--allow-sender", "--allow-for", "2d", "--reason", "is # fine\n")
    first, line, end = allowed.read_text().split("\n")
    assert (first, end) == ("first@x.test", "")
    assert re.fullmatch(
        rf"sender@example\.test  expires=20\S+Z by={ME}  # released {desk.spam}: is # fine ", line
    )
    assert [each[0] for each in desk.audited()] == ["allow", "release"]


def test_what_cannot_be_allowed_is_not_released_either(desk):
    for arguments, status, words in (
        (("release", desk.spam), 1, "quarantine.allow_list is not set"),
        (("release", desk.bounce), 1, "null sender"),
        (("release", desk.waiting), 1, "is not in quarantine"),
        (("release", "--all"), 2, "by their ids"),
    ):
        assert words in desk.run(*arguments, "--allow-sender", status=status).output
        desk.configure('allow_list = "allowed.txt"\n')
    assert desk.audited() == []
    assert not (desk.folder / "allowed.txt").exists()


# ---- reports


def test_rspamd_learns(desk, controller):
    (desk.folder / "password").write_text("secret\nmore\n")
    desk.configure(
        f'rspamd = "http://127.0.0.1:{controller}/"\nrspamd_password_file = "password"\n'
    )
    assert "rspamd: learned" in desk.run("report", desk.spam, "--as", "ham").output
    assert "it knows that already" in desk.run("report", desk.spam, "--as", "spam").output
    told = ("secret", "sender@example.test", CONTENT)
    assert Controller.seen[-2:] == [("/learnham", *told), ("/learnspam", *told)]
    assert desk.audited()[-1] == ("report", desk.spam, "as spam")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b'{"success":false}'), "it says 200"),
        ((200, b"\x1b[2J not JSON"), "it says 200:  [2J not JSON"),
        ((403, b'{"error":"Unauthorized"}'), "Unauthorized"),
        (None, "refused"),
    ],
)
def test_what_has_not_been_learned_is_said(desk, controller, monkeypatch, answer, words):
    port = controller if answer is not None else 1
    monkeypatch.setitem(Controller.answers, "/learnham", answer)
    desk.configure(f'rspamd = "http://127.0.0.1:{port}"\n')
    found = json.loads(desk.run("report", desk.spam, "--as", "ham", "--json", status=1).stdout)
    assert words in found["errors"]["rspamd"]
    assert found["told"] == {}


def test_where_nobody_learns_the_command_says_so(desk):
    said = desk.run("report", desk.spam, "--as", "ham", status=1).output
    assert "neither quarantine.rspamd nor quarantine.ham_address is set" in said
    desk.configure('ham_address = "ham@x.test"\n')
    said = desk.run("report", desk.spam, "--as", "ham", status=1).output
    assert "[submission] socket is not set" in said
    assert (
        "is not in quarantine" in desk.run("report", desk.waiting, "--as", "ham", status=1).output
    )


def test_an_attachment_is_the_message_octet_by_octet():
    made = attach("spam", ("op@x.test", "spam@x.test"), desk_id := "1M7ZSM19J0000", CONTENT)
    head, _, _ = made.partition(b"\r\n\r\n")
    boundary = re.search(rb'boundary="(.+?)"', head)[1]
    parts = made.split(b"\r\n--" + boundary)
    assert parts[2].partition(b"\r\n\r\n")[2] == CONTENT
    assert f"Subject: {desk_id} is spam".encode() in head
    assert ME.encode() in parts[1]
