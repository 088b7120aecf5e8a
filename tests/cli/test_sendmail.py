"""What `elemta sendmail` makes of its arguments, its configuration and a message."""

import io

import pytest

from elemta.cli.sendmail import Failure, parse_arguments
from elemta.cli.sendmail_message import MessageError, find_recipients, prepare, read_message
from elemta.cli.sendmail_settings import read_settings
from elemta.mail import parse_address
from elemta.mail.errors import ConfigError

DOMAIN = "here.test"
ME = parse_address("me@here.test")


class TestArguments:
    def test_all_that_mean_something(self):
        line = "-t -oi -fme@x.test -F Me -N success,DELAY -R hdrs -V a+b=c -bs -C /c.toml a b"
        wishes = parse_arguments(line.split(" "))
        assert wishes.reads_recipients
        assert wishes.ignores_dots
        assert (wishes.sender, wishes.full_name) == ("me@x.test", "Me")
        assert (wishes.notify, wishes.ret, wishes.envid) == ("SUCCESS,DELAY", "HDRS", "a+2Bb+3Dc")
        assert (wishes.mode, str(wishes.config)) == ("s", "/c.toml")
        assert wishes.recipients == ["a", "b"]

    def test_recipients_are_no_options(self):
        assert parse_arguments(["--", "-t", "-f"]).recipients == ["-t", "-f"]
        assert parse_arguments(["a", "-t"]).recipients == ["a", "-t"]
        assert not parse_arguments(["--", "-t"]).reads_recipients

    @pytest.mark.parametrize(
        "line",
        ["-Z", "-f", "-bd", "-bp", "-N never,failure", "-N", "-R all", "-V a\nb", "-V a\u00e9"],
    )
    def test_nonsense(self, line):
        with pytest.raises(Failure) as caught:
            parse_arguments(line.split(" "))
        assert caught.value.code == 64


class TestMessages:
    def read(self, raw: bytes, limit: int = 1000, *, ignores_dots: bool = False) -> bytes:
        return read_message(io.BytesIO(raw), limit, ignores_dots=ignores_dots)

    @pytest.mark.parametrize(
        ("raw", "expected", "with_dots"),
        [
            (b"", b"", b""),
            (b"a\nb", b"a\r\nb\r\n", b"a\r\nb\r\n"),
            (b"a\r\nb\rc\n", b"a\r\nb\r\nc\r\n", b"a\r\nb\r\nc\r\n"),
            (b"a\n.\nb\n", b"a\r\n", b"a\r\n.\r\nb\r\n"),
            (b".\nb\n", b"", b".\r\nb\r\n"),
            (b"a\n.", b"a\r\n", b"a\r\n.\r\n"),
            (b"a\n..\n.b\n", b"a\r\n..\r\n.b\r\n", b"a\r\n..\r\n.b\r\n"),
        ],
    )
    def test_lines(self, raw, expected, with_dots):
        assert self.read(raw) == expected
        assert self.read(raw, ignores_dots=True) == with_dots

    def test_the_size_has_an_end(self):
        assert len(self.read(b"x" * 998, 1000)) == 1000
        for raw in (b"x" * 1001, b"\n" * 501):
            with pytest.raises(MessageError):
                self.read(raw)

    def test_addresses_are_completed(self):
        raw = b"From root Sat\r\nFrom: root (Cron)\r\nTo: a, B <b@x.test>\r\nX: y\r\n\r\nbody\r\n"
        assert prepare(raw, "", ME, DOMAIN).content == (
            b"From: <root@here.test>\r\nTo: <a@here.test>, B <b@x.test>\r\nX: y\r\n\r\nbody\r\n"
        )

    @pytest.mark.parametrize(
        "field", [b"From: A <a@x.test>, b@x.test (B)\r\n", b"From: <<a>>\r\n", b"To: x:;\r\n"]
    )
    def test_fields_that_need_nothing_or_cannot_be_read_stay(self, field):
        assert prepare(field + b"\r\n", "", ME, DOMAIN).content == field + b"\r\n"

    def test_names(self):
        for name, written in (("Me", "Me"), ("M. E.", '"M. E."'), ("Mü", "=?utf-8?B?TcO8?=")):
            content = prepare(b"\r\n", name, ME, DOMAIN).content
            assert content == f"From: {written} <me@here.test>\r\n\r\n".encode()
        assert (
            prepare(b"From: x@y.test\r\n", "Me", ME, DOMAIN).fields[0][1] == b"From: x@y.test\r\n"
        )
        with pytest.raises(MessageError):
            prepare(b"\r\n", "Me\r\nBcc: x", ME, DOMAIN)

    def test_a_message_without_a_header_section_is_a_body(self):
        assert prepare(b"just text\r\n", "", ME, DOMAIN).content == b"\r\njust text\r\n"

    def test_recipients(self):
        raw = (
            b"To: a, undisclosed\r\nCc:\r\nCc: b@x.test\r\nBcc: c@x.test\r\nTo: friends:;\r\n"
            b"Reply-To: no@x.test\r\n\r\n"
        )
        message = prepare(raw, "", ME, DOMAIN)
        found = [str(each) for each in find_recipients(message, DOMAIN)]
        assert found == ["a@here.test", "undisclosed@here.test", "b@x.test", "c@x.test"]
        assert b"Bcc" not in message.without_bcc().content
        again = prepare(b"Resent-To: d@x.test\r\n" + raw, "", ME, DOMAIN)
        assert [str(each) for each in find_recipients(again, DOMAIN)] == ["d@x.test"]
        with pytest.raises(MessageError):
            find_recipients(prepare(b"To: <a@x.test> b\r\n\r\n", "", ME, DOMAIN), DOMAIN)


class TestSettings:
    def test_only_its_own_are_looked_at(self, tmp_path, monkeypatch):
        file = tmp_path / "elemta.toml"
        file.write_text(
            '[server]\nhostname = "MX.example.test"\nstate_dir = "var"\nworkers = "nonsense"\n'
            '[tls]\ncertificate = "file:/nowhere"\n[submission]\nsocket = "submit"\n'
        )
        settings = read_settings(file)
        assert settings.socket == str(tmp_path / "submit")
        assert settings.pickup == tmp_path / "var" / "pickup"
        assert (settings.local_domain, settings.max_message_size) == ("mx.example.test", 25_000_000)
        monkeypatch.setenv("ELEMTA_CONFIG", str(file))
        assert read_settings(None) == settings

    @pytest.mark.parametrize(
        "text",
        ["", "[submission", '[submission]\nsocket = ""\n', '[server]\nhostname = "a b"\n', "\0"],
    )
    def test_what_is_wrong(self, tmp_path, text):
        file = tmp_path / "elemta.toml"
        file.write_text(text)
        with pytest.raises(ConfigError):
            read_settings(file)
        with pytest.raises(ConfigError):
            read_settings(tmp_path / "none")
