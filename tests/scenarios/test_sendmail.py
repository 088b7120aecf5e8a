"""`elemta sendmail` and the running server, or one that does not run just then."""

import contextlib
import getpass
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from servers.elemta import MAILDIR, Elemta, running

SUBMISSION = '[submission]\nsocket = "{folder}/submit"\npickup = "{folder}/pickup"\n'
ME = getpass.getuser()
NOBODY = 65534
MESSAGE = b"To: ann@example.test\nSubject: hello\n\nhello\n"
AS_NOBODY = f"""
import os, sys
from elemta.cli.sendmail import run
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def server():
    """A server whose folder everybody can reach."""
    folder = Path(tempfile.mkdtemp(prefix="elemta-sendmail-"))
    folder.chmod(0o755)
    server = Elemta(folder, rest=MAILDIR + SUBMISSION, workers=2)
    try:
        server.start()
        server.wait_for((folder / "pickup").exists, "the pickup folder")
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@contextlib.contextmanager
def down(server: Elemta):
    """While the server does not run."""
    server.stop()
    try:
        yield
    finally:
        server.start()


def sendmail(server: Elemta, *arguments: str, content: bytes = MESSAGE, program=()):
    command = program or (sys.executable, "-m", "elemta", "sendmail")
    return subprocess.run(
        [*command, *arguments],
        input=content,
        capture_output=True,
        env={**os.environ, "ELEMTA_CONFIG": str(server.config)},
        timeout=60,
        check=False,
    )


def as_nobody(server: Elemta, *arguments: str, content: bytes = MESSAGE):
    if os.getuid():
        pytest.skip("only root can run it as somebody else")
    return sendmail(server, *arguments, content=content, program=(sys.executable, "-c", AS_NOBODY))


def arrived(server: Elemta, local: str, count: int = 1) -> bytes:
    return server.wait_mail(local, count)[-1]


def sent(server: Elemta, *arguments: str, content: bytes = MESSAGE) -> None:
    done = sendmail(server, *arguments, content=content)
    assert done.returncode == 0, done.stderr
    assert done.stderr == done.stdout == b""


class TestPrograms:
    def test_recipients_from_the_header_section(self, server):
        content = (
            b"To: Tom <tom@example.test>,\n\ttim@example.test\nCc: undisclosed-recipients:;\n"
            b"Bcc: hidden@example.test\nSubject: list\n\n.\nafter the dot\n"
        )
        sent(server, "-t", "-oi", content=content)
        for local in ("tom", "tim", "hidden"):
            there = arrived(server, local)
            assert b"hidden@example.test" not in there.partition(b"\r\nSubject")[2]
            assert b"Bcc" not in there
            assert there.endswith(b"\r\n\r\n.\r\nafter the dot\r\n")
            assert f"\r\nFrom: <{ME}@mail.example.test>\r\n".encode() in there
            assert b"\r\nDate: " in there
            assert b"\r\nMessage-ID: <" in there
            assert b"(local)" in there

    def test_as_cron_does(self, server):
        content = b"From: root (Cron Daemon)\nTo: cron@example.test\nSubject: job\n\noutput\n"
        sent(
            server, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "cron@example.test", content=content
        )
        assert b"\r\nFrom: <root@mail.example.test>\r\n" in arrived(server, "cron")

    def test_by_the_name_of_sendmail_in_a_shell(self, server):
        link = server.folder / "sendmail"
        link.symlink_to(Path(sys.executable).with_name("elemta"))
        script = 'printf "Subject: shell\\n\\nhello\\n" | "$0" -F "A. Person" shell@example.test'
        done = sendmail(server, program=("/bin/sh", "-c", script, str(link)))
        assert done.returncode == 0, done.stderr
        written = f'\r\nFrom: "A. Person" <{ME}@mail.example.test>\r\n'
        assert written.encode() in arrived(server, "shell")

    def test_without_i_a_dot_ends_the_message(self, server):
        sent(server, "dot@example.test", content=b"Subject: x\n\nhello\n.\nnot this\n")
        assert arrived(server, "dot").endswith(b"\r\nhello\r\n")

    def test_lists_and_names_as_arguments(self, server):
        sent(server, "l1@example.test,l2@example.test", "Lee <l3@example.test>")
        sent(server, '"Lee, L." <l4@example.test>', "<l5@example.test>")
        for number in range(1, 6):
            assert arrived(server, f"l{number}")

    def test_a_name_that_looks_like_an_option(self, server):
        sent(server, "--", "-oX@example.test")
        assert arrived(server, "-ox")

    def test_notifications_are_asked_for(self, server):
        sent(
            server,
            "-N",
            "success",
            "-R",
            "hdrs",
            "-V",
            "id=1",
            "-f",
            "dsn@example.test",
            "to@example.test",
        )
        notification = arrived(server, "dsn")
        assert b"Original-Envelope-Id: id=1" in notification

    def test_smtp_by_standard_input(self, server):
        commands = ("EHLO me", f"MAIL FROM:<{ME}@mail.example.test>", "RCPT TO:<bs@example.test>")
        process = subprocess.Popen(
            [sys.executable, "-m", "elemta", "sendmail", "-bs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "ELEMTA_CONFIG": str(server.config)},
        )

        def said(line: str) -> bytes:
            process.stdin.write(line.encode())
            process.stdin.flush()
            while (reply := process.stdout.readline())[3:4] == b"-":
                pass
            return reply[:3]

        with process:
            assert said("") == b"220"
            assert [said(f"{command}\r\n") for command in commands] == [b"250"] * 3
            assert said("DATA\r\n") == b"354"
            assert said("Subject: bs\r\n\r\nhello\r\n.\r\n") == b"250"
            assert said("QUIT\r\n") == b"221"
        assert process.returncode == 0
        assert b"(local)" in arrived(server, "bs")

    def test_smtp_is_piped_in_whole(self, server):
        commands = (
            f"HELO me\nMAIL FROM:<{ME}@mail.example.test>\nRCPT TO:<piped@example.test>\nDATA\n"
        )
        said = f"{commands}Subject: piped\n\nhello\n.\nQUIT\n".encode()
        done = sendmail(server, "-bs", content=said)
        codes = [line[:3] for line in done.stdout.splitlines()]
        assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
        assert done.returncode == 0
        assert arrived(server, "piped").endswith(b"\r\n\r\nhello\r\n")

    @pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r"])
    def test_nothing_is_smuggled(self, server, end):
        name = f"smuggled{end.hex()}"
        content = b"Subject: x\n\nhello" + end + b"MAIL FROM:<x@y.test>\n"
        sent(server, "-i", f"{name}@example.test", content=content)
        there = arrived(server, name)
        assert there.endswith(b"\r\nhello\r\n.\r\nMAIL FROM:<x@y.test>\r\n")
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", there)


class TestWho:
    def test_users_send_as_themselves(self, server):
        done = as_nobody(server, "self@example.test")
        assert done.returncode == 0, done.stderr
        assert b"\r\nFrom: <nobody@mail.example.test>\r\n" in arrived(server, "self")

    @pytest.mark.parametrize(
        ("arguments", "content"),
        [
            (("-f", "root@mail.example.test"), MESSAGE),
            (("-f", "ceo@example.test"), MESSAGE),
            ((), b"From: ceo@example.test\n" + MESSAGE),
            ((), b"From: root\n" + MESSAGE),
        ],
    )
    def test_and_not_as_others(self, server, arguments, content):
        done = as_nobody(server, *arguments, "victim@example.test", content=content)
        assert done.returncode == 77
        assert done.stderr.startswith(b"sendmail: 553 5.7.1 ")

    def test_trusted_users_send_as_anybody(self, server):
        if os.getuid():
            pytest.skip("root is trusted, and this is not root")
        content = b"From: ceo@elsewhere.test\n" + MESSAGE
        sent(server, "-f", "ceo@elsewhere.test", "trusted@example.test", content=content)
        assert b"\r\nFrom: ceo@elsewhere.test\r\n" in arrived(server, "trusted")


class TestDown:
    def test_mail_waits_for_the_server(self, server):
        with down(server):
            for local in ("later", "later", "too"):
                sent(server, f"{local}@example.test")
            left = self.left(server)
            assert len(left) == 3
            assert {oct(each.stat().st_mode & 0o777) for each in left} == {"0o640"}
        arrived(server, "later", 2)
        arrived(server, "too")
        server.wait_for(lambda: not self.left(server), "the folder to be empty")
        assert len(server.mailbox("later")) == 2

    def left(self, server: Elemta) -> list[Path]:
        return list((server.folder / "pickup").glob("[0-9a-f]*"))

    def test_of_everybody(self, server):
        with down(server):
            done = as_nobody(server, "others@example.test")
            assert done.returncode == 0, done.stderr
            [left] = self.left(server)
            assert left.stat().st_uid == NOBODY
        assert b"\r\nFrom: <nobody@mail.example.test>\r\n" in arrived(server, "others")

    def test_nobody_leaves_mail_of_others(self, server):
        with down(server):
            assert (
                as_nobody(server, "-f", "ceo@example.test", "forged@example.test").returncode == 0
            )

        def refusals() -> list[dict[str, str]]:
            return [each for each in server.events("notice") if "553 5.7.1" in each["detail"]]

        [notice] = server.wait_for(refusals, "the refusal")
        assert "put aside" in notice["detail"]
        assert len(list((server.folder / "pickup").glob("refused-*.mail"))) == 1
        assert not server.mailbox("forged")

    def test_what_is_no_message(self, server, tmp_path):
        pickup = server.folder / "pickup"
        refused = set(pickup.glob("refused-*"))
        numbers = itertools.count(1)
        names = (f"{number:032x}.mail" for number in numbers)
        envelope = json.dumps({"sender": "", "recipients": ["x@example.test"]}).encode()
        (pickup / next(names)).write_bytes(b"")
        (pickup / next(names)).write_bytes(b"{}\n")
        (pickup / next(names)).write_bytes(b"\xff\n")
        (pickup / next(names)).write_bytes(b'{"sender":"a b","recipients":["x"]}\nx')
        (pickup / next(names)).write_bytes(envelope.replace(b"x@", b"x>\\r\\nDATA@") + b"\nx")
        (pickup / next(names)).write_bytes(b"x" * 2_000_000)
        (pickup / next(names)).symlink_to("/etc/passwd")
        os.mkfifo(pickup / next(names))
        (pickup / next(names)).mkdir()
        linked = tmp_path / "secret"
        linked.write_bytes(envelope + b"\nsecret")
        wrong = next(numbers) - 1  # they may be put aside already
        with contextlib.suppress(OSError):  # another file system
            os.link(linked, pickup / next(names))
            wrong += 1

        def is_done() -> bool:
            return len(set(pickup.glob("refused-*")) - refused) == wrong

        server.wait_for(is_done, "all to be put aside")
        sent(server, "still@example.test")
        assert arrived(server, "still")
        for path in set(pickup.glob("refused-*")) - refused:
            path.rmdir() if path.is_dir() else path.unlink()

    def test_raw_content_is_mended_or_refused(self, server):
        """Whoever writes such a file by hand gets no further than by the socket."""
        envelope = {"sender": f"{ME}@mail.example.test", "recipients": ["raw@example.test"]}
        head = json.dumps(envelope).encode() + b"\nSubject: x\r\n\r\nhello"
        tails = (b"\n.\nMAIL FROM:<x@y.test>\n", b"\r\n.\r\nMAIL FROM:<x@y.test>\r\n.", b"\r\n..")
        for number, tail in enumerate(tails, start=1):
            final = server.folder / "pickup" / f"{number:032x}.mail"
            draft = final.with_suffix(".draft")
            draft.write_bytes(head + tail)
            draft.replace(final)
        mails = server.wait_mail("raw", len(tails))
        assert len(server.mailbox("raw")) == len(tails)
        for content in mails:
            assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)
        assert sum(content.endswith(b"\r\nhello\r\n..\r\n") for content in mails) == 1
        assert sum(b"\r\n.\r\nMAIL FROM" in content for content in mails) == 2

    def test_smtp_is_not_to_be_had(self, server):
        with down(server):
            done = sendmail(server, "-bs")
            assert (done.returncode, done.stdout[:3]) == (75, b"421")


PICKY = """
from elemta.plugins import Metadata, Plugin, Result


class Picky(Plugin):
    metadata = Metadata(name="picky", version="1")

    def on_headers(self, context):
        if context.headers.get("subject") == "spam" and context.session.username == "unix:ME":
            return Result.reject("no spam")
"""


def test_plugins_and_a_restart():
    """Plugins are asked as of anybody's mail, and the socket goes on to the next generation."""
    with tempfile.TemporaryDirectory(prefix="elemta-picky-") as name:
        folder = Path(name)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "picky.py").write_text(PICKY.replace("ME", ME))
        rest = MAILDIR + SUBMISSION + '[plugins]\ndirectory = "{folder}/plugins"\n'
        with running(folder, rest=rest) as server:
            server.wait_for((folder / "pickup").exists, "the pickup folder")
            done = sendmail(server, "a@example.test", content=b"Subject: spam\n\nx\n")
            assert (done.returncode, b"no spam" in done.stderr) == (77, True)
            sent(server, "a@example.test")
            assert arrived(server, "a")
            server.cli("restart")
            sent(server, "b@example.test")
            assert arrived(server, "b")
            server.kill()
            sent(server, "c@example.test", content=b"Subject: spam\n\nx\n")
            sent(server, "d@example.test")
            server.start()
            assert arrived(server, "d")
            [notice] = server.wait_event("notice", subject="pickup")
            assert re.search(r"no spam \(id \w{8}\); it is put aside", notice["detail"])


class TestExitCodes:
    @pytest.mark.parametrize(
        ("code", "arguments", "content"),
        [
            (64, (), MESSAGE),
            (64, ("-t",), b"Subject: to nobody\n\nx\n"),
            (64, ("-Z", "x@example.test"), MESSAGE),
            (64, ("-bp",), MESSAGE),
            (64, ("-N", "always", "x@example.test"), MESSAGE),
            (64, ("a b@example.test",), MESSAGE),
            (64, ("x@example.test,,y@example.test",), MESSAGE),
            (64, ("x@example.test, <y@example.test",), MESSAGE),
            (64, ("",), MESSAGE),
            (65, ("-t",), b"To: <<x@example.test>>\n\nx\n"),
            (65, ("x@example.test",), b"Subject: x\n\n\0\n"),
            (78, ("-C", "/nowhere.toml", "x@example.test"), MESSAGE),
        ],
    )
    def test_of_what_is_wrong(self, server, code, arguments, content):
        done = sendmail(server, *arguments, content=content)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith(b"sendmail: ")

    def test_of_options_that_mean_nothing_here(self, server):
        options = (
            "-Am -om -oem -O DeliveryMode=b -G -n -U -v -h 5 -L tag -p smtp -X /dev/null -d0.1 -q"
        )
        sent(server, *options.split(), "options@example.test")
        assert arrived(server, "options")
