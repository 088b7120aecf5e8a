"""`elemta send`: one message to one server, for a first try and for scripts.

A message is built from options, or passed through as it is, its line ends made CRLF. What is
sent goes through the same machine that delivers mail, so that it cannot be misread.
"""

import secrets
import sys
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from typing import TypedDict, Unpack

import click

from elemta.cli.dialogue import Dialogue, Sent, connect, own_name
from elemta.cli.options import config_option, load_config
from elemta.cli.output import OK, TEMPORARY, fail, json_option, put_json, warn
from elemta.config.values import Endpoint, parse_endpoint
from elemta.mail.address import Address, parse_address
from elemta.mail.errors import AddressError, HeaderError, LocalProtocolError, ProtocolError
from elemta.mail.headers import build_field
from elemta.mail.reply import Reply, clean_text
from elemta.net.clock import SystemClock

REFUSED = 69  # EX_UNAVAILABLE of sysexits.h
BAD_DATA = 65  # EX_DATAERR
NO_INPUT = 66  # EX_NOINPUT


class AddressType(click.ParamType[Address | None]):
    """A mailbox; "<>" is the null sender, which is None."""

    name = "address"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address | None:
        if value == "<>":
            return None
        try:
            return parse_address(str(value))
        except AddressError as error:
            self.fail(f"{clean_text(str(value), 80)}: {error}", param, ctx)


class ServerType(click.ParamType[Endpoint]):
    """Where to send: "host:port", "[::1]:25" or "unix:/path"."""

    name = "server"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Endpoint:
        text = str(value)
        try:
            return parse_endpoint(text)
        except ValueError:
            host, _, port = text.rpartition(":")
            if host and port.isascii() and port.isdigit() and int(port) < 65536:
                return Endpoint(host, int(port))
            self.fail('"host:port" is expected, such as "127.0.0.1:2525"', param, ctx)


class Options(TypedDict):
    """What the command line gave."""

    sender: Address | None
    recipients: tuple[Address | None, ...]
    subject: str | None
    body: str | None
    file: str | None
    server: Endpoint | None
    timeout: float
    config_path: Path | None
    as_json: bool


@click.command(epilog="Exit status: 0 accepted, 69 refused, 75 try again later (sysexits.h).")
@click.option("--from", "sender", required=True, type=AddressType(), help='"<>" is nobody.')
@click.option("--to", "recipients", required=True, multiple=True, type=AddressType())
@click.option("--subject", help="Build a message with this subject.")
@click.option("--body", help="Build a message with this text.")
@click.option("--server", type=ServerType(), help="host:port; else the first MTA listener.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds.")
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@config_option
@json_option
def send(**options: Unpack[Options]) -> None:
    """Send a message to a server by SMTP, and print its reply.

    Without --subject and --body the message is read from FILE or standard input, header and
    all, and sent as it is; line ends become CRLF.
    """
    recipients = [each for each in options["recipients"] if each is not None]
    if len(recipients) != len(options["recipients"]):
        raise click.BadParameter("nobody is no recipient", param_hint="--to")
    content = _content(options, recipients)
    server = options["server"] or _own_listener(options["config_path"])
    try:
        with connect(server, options["timeout"]) as connection:
            sent = Dialogue(connection).send(options["sender"], recipients, content)
    except OSError as error:
        fail(f"{server}: {error.strerror or error}", TEMPORARY)
    except LocalProtocolError as error:
        fail(f"{server}: {error}", REFUSED)
    except ProtocolError as error:
        fail(f"{server}: {error}", TEMPORARY)
    _report(sent, as_json=options["as_json"])
    raise SystemExit(_status(sent))


def _content(options: Options, recipients: Sequence[Address]) -> bytes:
    """Build the message, or read it."""
    file, is_built = options["file"], (options["subject"], options["body"]) != (None, None)
    if is_built:
        if file is not None:
            raise click.UsageError("FILE is a whole message: it needs no --subject or --body")
        try:
            return build_message(
                options["sender"], recipients, options["subject"] or "", options["body"] or ""
            )
        except HeaderError as error:
            fail(str(error), BAD_DATA)
    if file in {None, "-"}:
        if sys.stdin.isatty():
            raise click.UsageError("give --body, or a message in FILE or on standard input")
        raw = sys.stdin.buffer.read()
    else:
        try:
            raw = Path(file or "").read_bytes()
        except OSError as error:
            fail(f"{file}: {error.strerror}", NO_INPUT)
    return crlf(raw)


def build_message(
    sender: Address | None, recipients: Sequence[Address], subject: str, body: str
) -> bytes:
    """Build a message of plain text.

    Raises:
        HeaderError: The subject has line ends or control characters.
    """
    wide = any(each is not None and each.needs_smtputf8 for each in (sender, *recipients))
    domain = sender.domain if sender is not None and sender.domain else own_name()
    author = str(sender) if sender is not None else f"postmaster@{domain}"
    now = SystemClock().now()
    fields = {
        "From": author,
        "To": ", ".join(str(recipient) for recipient in recipients),
        "Subject": subject,
        "Date": formatdate(now),
        "Message-ID": f"<{secrets.token_hex(12)}@{domain}>",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "7bit" if body.isascii() else "8bit",
    }
    head = b"".join(build_field(name, value, utf8=wide) for name, value in fields.items())
    text = crlf(body.encode("utf-8", "replace"))
    return head + b"\r\n" + text + (b"" if text.endswith(b"\r\n") else b"\r\n")


def crlf(raw: bytes) -> bytes:
    """Make all line ends CRLF, as mail has them."""
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def _own_listener(path: Path | None) -> Endpoint:
    """Where the server of a configuration takes mail."""
    for listener in load_config(path).listeners:
        if listener.kind == "mta":
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)  # noqa: S104 - compared with
            return Endpoint(host, listener.port)
    raise click.UsageError("the configuration has no MTA listener: give --server")


def _report(sent: Sent, *, as_json: bool) -> None:
    if as_json:
        put_json(
            {
                "queue_id": _queue_id(sent.reply),
                "reply": _reply_json(sent.reply),
                "refused": [
                    {"recipient": str(recipient), **_reply_json(reply)}
                    for recipient, reply in sent.refused
                ],
            }
        )
        return
    for recipient, reply in sent.refused:
        warn(f"{recipient}: {reply}")
    click.echo(clean_text(str(sent.reply), 600))


def _queue_id(reply: Reply) -> str | None:
    """The queue id that Elemta and others put at the end of their reply."""
    _, found, queue_id = reply.text.partition("queued as ")
    return queue_id.split(" ")[0] if found and reply.is_positive else None


def _reply_json(reply: Reply) -> dict[str, object]:
    return {"code": reply.code, "enhanced": reply.enhanced, "text": reply.text}


def _status(sent: Sent) -> int:
    """0 where everyone was accepted; what may succeed later counts more than what will not."""
    replies = [sent.reply, *(reply for _, reply in sent.refused)]
    if any(reply.is_temporary for reply in replies):
        return TEMPORARY
    return OK if all(reply.is_positive for reply in replies) else REFUSED
