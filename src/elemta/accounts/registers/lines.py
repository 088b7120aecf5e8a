"""One account as one line, as passwd files have it; those of Dovecot can be read as they are.

    login:hash:::::: key=value key=value
    me@example.test:$argon2id$v=19$...:::::: senders=example.test,*.example.test groups=staff

Between the hash and the keys are the fields that passwd files have and mail does not need.
Keys: `senders`, `groups`, `act_as` (lists, with commas), `locked`, `scram`
(iterations,salt,stored key,server key, in base64), `secret`, and for each app password `app`
(name,digest,scope,created,expires and networks, with semicolons). In values "%", commas,
semicolons and spaces are written as %25, %2C, %3B and %20. Other keys stay as they are.

Raises:
    LineError: A line is none of that. It does not repeat the line, which may hold a secret.
"""

import base64
import binascii
from dataclasses import dataclass, field
from ipaddress import ip_network
from urllib.parse import quote, unquote

from elemta.accounts.account import MAX_APP_PASSWORDS, Account, AppPassword, Record, ScramKeys
from elemta.accounts.hashes import find_fault
from elemta.accounts.prepare import PrepareError, prepare_login

MAX_LINE = 64 * 1024  # octets
_FIELDS = 7  # colons before the keys
_OURS = ("senders", "groups", "act_as", "locked", "scram", "secret", "app")
_PLAIN = "@*.$/:+=!#&'?^_`{|}~-"  # written as they are; no space, percent, comma or semicolon


class LineError(ValueError):
    """A line of a file of accounts is not one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was understood.

    Attributes:
        record: Who it is about.
        middle: The fields between the hash and the keys, as they were.
        others: Keys that mean nothing here, as they were.
    """

    record: Record
    middle: str = "::::::"
    others: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        record = self.record
        keys = " ".join([*_keys(record), *self.others])
        end = f"{self.middle}{keys}" if keys or self.middle.strip(":") else ""
        return f"{record.account.name}:{record.password_hash}{end}"


def parse_line(text: str) -> Line:
    """Read a line that is neither empty nor a comment."""
    fields = text.split(":", _FIELDS)
    if len(fields) < 2:
        raise LineError("a login and a hash are expected, with a colon between them")
    try:
        name = prepare_login(fields[0])
    except PrepareError as error:
        raise LineError(str(error)) from None
    fault = find_fault(fields[1]) if fields[1] else ""
    if fault:
        raise LineError(f"the hash {fault}")
    middle = ":" + ":".join([*fields[2:_FIELDS], *[""] * (_FIELDS - len(fields))]) + ":"
    words = fields[_FIELDS].split() if len(fields) > _FIELDS else []
    others = tuple(word for word in words if word.partition("=")[0] not in _OURS)
    try:
        return Line(_read(name, fields[1], words), middle, others)
    except (ValueError, binascii.Error):
        raise LineError("one of the keys has a value that cannot be read") from None


def _read(name: str, password_hash: str, words: list[str]) -> Record:
    values = dict(word.partition("=")[::2] for word in words)
    apps = tuple(_read_app(word.removeprefix("app=")) for word in words if word[:4] == "app=")
    if len(apps) > MAX_APP_PASSWORDS:
        raise ValueError("too many app passwords")
    account = Account(
        name,
        senders=tuple(value.lower() for value in _list(values.get("senders", ""))),
        groups=_list(values.get("groups", "")),
        act_as=tuple(prepare_login(value) for value in _list(values.get("act_as", ""))),
        is_locked=values.get("locked", "no") != "no",
    )
    scram = _read_scram(values["scram"]) if values.get("scram") else None
    return Record(account, password_hash, scram, unquote(values.get("secret", "")), apps)


def _list(text: str, separator: str = ",") -> tuple[str, ...]:
    return tuple(unquote(part) for part in text.split(separator) if part)


def _read_scram(text: str) -> ScramKeys:
    iterations, *parts = text.split(",")
    salt, stored, server = (base64.b64decode(part, validate=True) for part in parts)
    if len(stored) != 32 or len(server) != 32 or not salt or not 0 < int(iterations) < 10**8:
        raise ValueError("not the keys of SCRAM-SHA-256")
    return ScramKeys(int(iterations), salt, stored, server)


def _read_app(text: str) -> AppPassword:
    name, digest, scope, created_at, expires_at, networks = text.split(",")
    return AppPassword(
        unquote(name),
        digest,
        scope,
        networks=tuple(ip_network(part) for part in _list(networks, ";")),
        created_at=float(created_at),
        expires_at=float(expires_at) if expires_at else None,
    )


def _keys(record: Record) -> list[str]:
    account, scram = record.account, record.scram
    found = [
        f"{key}={','.join(_quoted(each) for each in values)}"
        for key, values in (
            ("senders", account.senders),
            ("groups", account.groups),
            ("act_as", account.act_as),
        )
        if values
    ]
    if account.is_locked:
        found.append("locked=yes")
    if scram is not None:
        parts = (scram.salt, scram.stored_key, scram.server_key)
        texts = (base64.b64encode(part).decode() for part in parts)
        found.append(f"scram={scram.iterations},{','.join(texts)}")
    if record.secret:
        found.append(f"secret={_quoted(record.secret)}")
    return [*found, *(_written_app(app) for app in record.app_passwords)]


def _written_app(app: AppPassword) -> str:
    expires_at = f"{app.expires_at:.0f}" if app.expires_at is not None else ""
    networks = ";".join(str(network) for network in app.networks)
    name = _quoted(app.name)
    return f"app={name},{app.digest},{app.scope},{app.created_at:.0f},{expires_at},{networks}"


def _quoted(text: str) -> str:
    return quote(text, safe=_PLAIN)
