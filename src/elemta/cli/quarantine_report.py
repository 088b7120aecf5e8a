"""`elemta quarantine report`: what was taken for spam and is none, or the other way round.

Rspamd is told by its controller, and whoever else learns from such mail by a message that has it
as an attachment. Both are settings of `[quarantine]`.
"""

import http.client
import json
import secrets
import ssl
from email.utils import formatdate
from pathlib import Path
from typing import Literal, TypedDict, Unpack
from urllib.parse import urlsplit

import click

from elemta.cli.filters import QueueIdType
from elemta.cli.operators import record, user
from elemta.cli.options import config_option, load_config
from elemta.cli.output import OK, PROBLEM, fail, json_option, put_json, warn
from elemta.cli.queue_read import ask, read_content
from elemta.cli.queue_view import QueueView
from elemta.cli.sendmail import Failure, hand_over, user_name
from elemta.cli.sendmail_settings import SendmailSettings
from elemta.config import Config
from elemta.mail.ids import QueueId
from elemta.mail.message import State
from elemta.mail.reply import clean_text
from elemta.queue.store import Stored
from elemta.server.submission.pickup import Envelope

Kind = Literal["ham", "spam"]
TIMEOUT = 60.0  # seconds for Rspamd to learn a message
MAX_ANSWER = 65_536  # octets
KNOWN = 208  # "Already Reported": Rspamd has learned it before


class ReportOptions(TypedDict):
    """The options of `elemta quarantine report`."""

    queue_id: QueueId
    kind: Kind
    config_path: Path | None
    as_json: bool


@click.command("report")
@click.argument("queue_id", metavar="ID", type=QueueIdType())
@click.option(
    "--as", "kind", required=True, type=click.Choice(["ham", "spam"]), help="What it really is."
)
@config_option
@json_option
def report(**options: Unpack[ReportOptions]) -> None:
    """Tell those who learn from mail what a message in quarantine really is.

    Who they are is in [quarantine]: rspamd, ham_address, spam_address. The message stays where
    it is.
    """
    queue_id, kind = options["queue_id"], options["kind"]
    config = load_config(options["config_path"])
    quarantine = config.quarantine
    address = quarantine.ham_address if kind == "ham" else quarantine.spam_address
    if not quarantine.rspamd and not address:
        fail(f"nobody learns: neither quarantine.rspamd nor quarantine.{kind}_address is set")
    stored, raw = ask(options["config_path"], lambda view: _read(view, queue_id, kind))
    told: dict[str, str] = {}
    errors: dict[str, str] = {}
    if quarantine.rspamd:
        _note(told, errors, "rspamd", _learn(config, kind, stored, raw))
    if address:
        _note(told, errors, address, _forward(config, kind, address, stored, raw))
    if options["as_json"]:
        put_json({"queue_id": queue_id, "as": kind, "told": told, "errors": errors})
    for name, text in told.items():
        if not options["as_json"]:
            click.echo(f"{name}: {text}")
    for name, text in errors.items():
        warn(f"{name}: {text}")
    raise SystemExit(PROBLEM if errors else OK)


def _note(
    told: dict[str, str], errors: dict[str, str], name: str, answer: tuple[bool, str]
) -> None:
    is_told, text = answer
    (told if is_told else errors)[name] = clean_text(text, 300)


async def _read(view: QueueView, queue_id: QueueId, kind: Kind) -> tuple[Stored, bytes]:
    stored = await view.get(queue_id)
    if stored is None or all(each.state is not State.QUARANTINE for each in stored.recipients):
        fail(f"{queue_id} is not in quarantine")
    record(view.state_dir, "report", queue_id, f"as {kind}")
    return stored, await read_content(view, queue_id, whole=True)


# ---- Rspamd


def _learn(config: Config, kind: Kind, stored: Stored, raw: bytes) -> tuple[bool, str]:
    """Have Rspamd learn a message; whether it has, and what it says."""
    url = urlsplit(config.quarantine.rspamd)
    fields = {"Content-Type": "message/rfc822", "From": str(stored.message.sender or "")}
    fields = {name: value for name, value in fields.items() if value.isascii() and value}
    try:
        password = _password(config.quarantine.rspamd_password_file)
    except OSError as error:
        return False, f"{config.quarantine.rspamd_password_file}: {error.strerror}"
    if password:
        fields["Password"] = password
    connection = _connect(url.scheme, url.hostname or "", url.port)
    try:
        connection.request("POST", f"{url.path}/learn{kind}", raw, fields)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or type(error).__name__
    finally:
        connection.close()
    if answer.status == KNOWN:
        return True, "it knows that already"
    if answer.status == 200 and _says_yes(body):
        return True, "learned"
    return False, f"it says {answer.status}: {body.decode('utf-8', 'replace')}"


def _connect(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT)


def _password(path: str) -> str:
    if not path:
        return ""
    return Path(path).read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()


def _says_yes(body: bytes) -> bool:
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("success") is True


# ---- a mailbox


def _forward(
    config: Config, kind: Kind, address: str, stored: Stored, raw: bytes
) -> tuple[bool, str]:
    """Send a message as an attachment; whether that went well, and what is to be said."""
    submission, server = config.submission, config.server
    if not submission.socket:
        return False, "[submission] socket is not set: nobody may send mail so"
    if stored.message.facts.body == "BINARYMIME":
        return False, "a message with binary parts cannot be an attachment"
    domain = submission.local_domain or server.hostname
    settings = SendmailSettings(
        submission.socket, config.pickup or Path(), domain, server.max_message_size
    )
    sender = f"{user_name()}@{domain}"
    content = attach(kind, (sender, address), stored.message.queue_id, raw)
    try:
        hand_over(settings, Envelope(sender, (address,)), content)
    except Failure as error:
        return False, str(error)
    return True, "sent"


def attach(kind: Kind, way: tuple[str, str], queue_id: QueueId, raw: bytes) -> bytes:
    """Make a message that has another as its attachment.

    Args:
        kind: What the other really is.
        way: Sender and recipient.
        queue_id: Of the other.
        raw: The other.
    """
    boundary = f"={queue_id}.{secrets.token_hex(8)}"
    encoding = "7bit" if raw.isascii() else "8bit"
    head = (
        f"From: {way[0]}",
        f"To: {way[1]}",
        f"Subject: {queue_id} is {kind}",
        f"Date: {formatdate()}",
        f"Message-ID: <{secrets.token_hex(12)}@{way[0].rpartition('@')[2]}>",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/mixed; boundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"{clean_text(user()).encode('ascii', 'replace').decode()} says that this is {kind}.",
        f"--{boundary}",
        "Content-Type: message/rfc822",
        f"Content-Transfer-Encoding: {encoding}",
        "Content-Disposition: attachment",
        "",
        "",
    )
    return "\r\n".join(head).encode() + raw + f"\r\n--{boundary}--\r\n".encode()
