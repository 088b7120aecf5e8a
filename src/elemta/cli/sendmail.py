"""`elemta sendmail`: what programs call to send mail, as sendmail(1) always was.

The message is read from standard input and handed to the running server by the unix socket of
`[submission]`, which knows by the kernel who sends it. While no server runs the message goes into
the pickup folder instead, and is on disk when the command ends with 0.

Exit codes are those of sysexits.h: 64 usage, 65 the message cannot be sent, 67 a recipient is
refused, 73 it cannot be left in the folder, 75 try again, 77 not under this name, 78 configuration.
"""

import getopt
import os
import pwd
import smtplib
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from elemta.cli.sendmail_message import (
    MessageError,
    find_recipients,
    prepare,
    read_message,
)
from elemta.cli.sendmail_settings import SendmailSettings, read_settings
from elemta.cli.sendmail_talk import pass_on, put
from elemta.mail.address import Address, parse_address
from elemta.mail.errors import AddressError, ConfigError
from elemta.mail.mailboxes import parse_mailboxes
from elemta.mail.reply import clean_text
from elemta.server.submission.pickup import Envelope, leave

EX_OK, EX_USAGE, EX_DATAERR, EX_NOUSER = 0, 64, 65, 67
EX_UNAVAILABLE, EX_CANTCREAT, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 69, 73, 75, 77, 78
FLAGS = "A:B:b:C:cd:e:F:f:Gh:iIL:M:mN:nO:o:p:R:r:sTtUV:vX:x"
TIMEOUT = 300.0  # seconds for an answer of the server
BUSY = frozenset({421, 451, 452})  # it has no room or no time: it takes the message later


class Failure(Exception):  # noqa: N818 - it ends the command
    """Nothing was sent; `code` is the exit status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Unreachable(Exception):  # noqa: N818 - the message is left in the folder then
    """The server does not run, or cannot take mail just now."""


@dataclass(slots=True)
class Wishes:
    """What the options ask for."""

    mode: str = "m"
    sender: str | None = None
    full_name: str = ""
    reads_recipients: bool = False
    ignores_dots: bool = False
    notify: str = ""
    ret: str = ""
    envid: str = ""
    config: Path | None = None
    recipients: list[str] = field(default_factory=list)


class RawCommand(click.Command):
    """A command whose arguments click leaves alone: they are in the style of another age."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = tuple(args)
        return []


@click.command("sendmail", cls=RawCommand, add_help_option=False)
def sendmail(arguments: tuple[str, ...]) -> None:
    """Send what comes by standard input."""
    raise SystemExit(run(arguments))


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; the exit status."""
    try:
        wishes = parse_arguments(arguments)
        settings = read_settings(wishes.config)
        if wishes.mode == "s":
            return _talk(settings)
        return _send(wishes, settings)
    except Failure as failure:
        _say(str(failure))
        return failure.code
    except ConfigError as error:
        _say(str(error))
        return EX_CONFIG
    except MessageError as error:
        _say(str(error))
        return EX_DATAERR


def _say(text: str) -> None:
    sys.stderr.write(f"sendmail: {clean_text(text, 1000)}\n")


# ---- the options


def parse_arguments(arguments: Sequence[str]) -> Wishes:
    """Read the command line.

    Raises:
        Failure: It makes no sense, or asks for what there is not.
    """
    at = list(arguments).index("--") if "--" in arguments else len(arguments)
    known = [each for each in arguments[:at] if each[:2] not in {"-q", "-d"} or each == "-"]
    try:
        options, recipients = getopt.getopt([*known, *arguments[at:]], FLAGS)
    except getopt.GetoptError as error:
        raise Failure(EX_USAGE, str(error)) from None
    wishes = Wishes(recipients=recipients)
    for option, value in options:
        take = _OPTIONS.get(option)
        if take is not None:
            take(wishes, value)
    if wishes.mode not in {"m", "s"}:
        raise Failure(EX_USAGE, f"-b{wishes.mode} is not to be had here")
    return wishes


def _set(name: str) -> Callable[[Wishes, str], None]:
    return lambda wishes, value: setattr(wishes, name, value)


def _set_old(wishes: Wishes, value: str) -> None:
    if value == "i":
        wishes.ignores_dots = True


def _set_mode(wishes: Wishes, value: str) -> None:
    wishes.mode = value[:1]


def _set_notify(wishes: Wishes, value: str) -> None:
    words = value.upper().split(",")
    if not (words == ["NEVER"] or set(words) <= {"SUCCESS", "FAILURE", "DELAY"}):
        raise Failure(EX_USAGE, "-N wants never, or some of success, failure and delay")
    wishes.notify = ",".join(words)


def _set_ret(wishes: Wishes, value: str) -> None:
    if value.lower() not in {"full", "hdrs"}:
        raise Failure(EX_USAGE, "-R wants full or hdrs")
    wishes.ret = value.upper()


def _set_envid(wishes: Wishes, value: str) -> None:
    if not (value.isascii() and value.isprintable()) or " " in value or len(value) > 100:
        raise Failure(EX_USAGE, "-V wants a word")
    wishes.envid = "".join(c if c not in "+=" else f"+{ord(c):02X}" for c in value)


def _set_config(wishes: Wishes, value: str) -> None:
    wishes.config = Path(value)


_OPTIONS: dict[str, Callable[[Wishes, str], None]] = {
    "-f": _set("sender"),
    "-r": _set("sender"),
    "-F": _set("full_name"),
    "-t": lambda wishes, _: setattr(wishes, "reads_recipients", True),
    "-i": lambda wishes, _: setattr(wishes, "ignores_dots", True),
    "-o": _set_old,
    "-b": _set_mode,
    "-N": _set_notify,
    "-R": _set_ret,
    "-V": _set_envid,
    "-C": _set_config,
}


# ---- sending


def _send(wishes: Wishes, settings: SendmailSettings) -> int:
    sender = _find_sender(wishes, settings)
    raw = read_message(
        sys.stdin.buffer, settings.max_message_size, ignores_dots=wishes.ignores_dots
    )
    message = prepare(raw, wishes.full_name, sender, settings.local_domain)
    recipients = _read_recipients(wishes.recipients, settings.local_domain)
    if wishes.reads_recipients:
        recipients += find_recipients(message, settings.local_domain)
        message = message.without_bcc()
    if not recipients:
        raise Failure(EX_USAGE, "nobody is named that should get it")
    envelope = Envelope(
        str(sender or ""),
        tuple(dict.fromkeys(map(str, recipients))),
        wishes.notify,
        wishes.ret,
        wishes.envid,
    )
    hand_over(settings, envelope, message.content)
    return EX_OK


def hand_over(settings: SendmailSettings, envelope: Envelope, content: bytes) -> None:
    """Give a message to the server, or leave it in the folder while it does not run.

    Raises:
        Failure: The server refuses it, or it cannot be left.
    """
    try:
        _submit(settings, envelope, content)
    except (Unreachable, OSError, smtplib.SMTPException):
        _leave(settings, envelope, content)


def _find_sender(wishes: Wishes, settings: SendmailSettings) -> Address | None:
    if wishes.sender is None:
        return Address(user_name(), settings.local_domain)
    text = wishes.sender.removeprefix("<").removesuffix(">")
    return _qualify(text, settings.local_domain) if text else None


def user_name() -> str:
    """Say who runs this."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def _qualify(text: str, domain: str) -> Address:
    try:
        return parse_address(text if "@" in text else f"{text}@{domain}")
    except AddressError as error:
        raise Failure(EX_USAGE, f"{text}: {error}") from None


def _read_recipients(arguments: Sequence[str], domain: str) -> list[Address]:
    """Read what is named as recipients: each may be a list, and have names, as in a field."""
    found: list[Address] = []
    for text in arguments:
        try:
            mailboxes = parse_mailboxes(os.fsencode(text), local_domain=domain)
        except AddressError as error:
            raise Failure(EX_USAGE, f"{text}: {error}") from None
        found += (mailbox.address for mailbox in mailboxes)
    return found


def _leave(settings: SendmailSettings, envelope: Envelope, content: bytes) -> None:
    try:
        leave(settings.pickup, envelope, content)
    except OSError as error:
        text = f"the server does not run, and {settings.pickup}: {error.strerror}"
        raise Failure(EX_CANTCREAT, text) from error


class _Client(smtplib.LMTP):
    """Speaks SMTP by a unix socket, which Python's library does for LMTP alone."""

    ehlo_msg = "ehlo"


def _submit(settings: SendmailSettings, envelope: Envelope, content: bytes) -> None:
    """Hand a message to the server.

    Raises:
        Unreachable, OSError, smtplib.SMTPException: It does not run, or has no time.
        Failure: It refuses.
    """
    client = _Client(local_hostname="localhost")  # else it would ask a name server for one
    client.timeout = TIMEOUT
    with client:
        client.command_encoding = "utf-8"
        _check(client.connect(settings.socket), 220, EX_UNAVAILABLE)
        _check(client.ehlo(), 250, EX_UNAVAILABLE)
        _check(client.docmd("MAIL", _mail_words(envelope)), 250, EX_NOPERM)
        notify = f" NOTIFY={envelope.notify}" if envelope.notify else ""
        for recipient in envelope.recipients:
            _check(client.docmd("RCPT", f"TO:<{recipient}>{notify}"), 250, EX_NOUSER)
        _check(client.data(content), 250, EX_DATAERR)


def _mail_words(envelope: Envelope) -> str:
    words = [f"FROM:<{envelope.sender}>", "BODY=8BITMIME"]
    if not all(each.isascii() for each in (envelope.sender, *envelope.recipients)):
        words.append("SMTPUTF8")
    words += [f"{k}={v}" for k, v in (("RET", envelope.ret), ("ENVID", envelope.envid)) if v]
    return " ".join(words)


def _check(said: tuple[int, bytes], wanted: int, code: int) -> None:
    number, text = said
    if number == wanted:
        return
    if number in BUSY:
        raise Unreachable
    words = text.decode("ascii", "replace")
    if number >= 500:
        status = EX_NOPERM if words.startswith("5.7.") else code
        raise Failure(status, f"{number} {words}")
    raise Failure(EX_TEMPFAIL, f"{number} {words}")


# ---- -bs


def _talk(settings: SendmailSettings) -> int:
    """Let whoever has called speak SMTP with the server itself."""
    try:
        server = socket.socket(socket.AF_UNIX)
        server.connect(settings.socket)
    except OSError as error:
        put(1, b"421 4.3.2 The server does not run, try again later\r\n")
        raise Failure(EX_TEMPFAIL, f"{settings.socket}: {error.strerror}") from error
    with server:
        try:
            pass_on(server)
        except OSError as error:
            raise Failure(EX_TEMPFAIL, f"the dialogue has broken off: {error.strerror}") from error
    return EX_OK
