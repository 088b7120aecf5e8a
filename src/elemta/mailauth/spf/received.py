"""The header field Received-SPF (RFC 7208 §9.1)."""

import re

from elemta.mail.reply import clean_text
from elemta.mailauth.spf.macros import printable
from elemta.mailauth.verdicts import AuthStatus, SpfVerdict

_LONGEST = 256  # octets of a value: a path may not be longer (RFC 5321 §4.5.3.1.3)

_DOT_ATOM = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII
).fullmatch
_SPECIAL_IN_QUOTES = re.compile(r'[\\"]')
_SPECIAL_IN_COMMENT = re.compile(r"[\\()]")

_COMMENTS = {
    AuthStatus.PASS: "{domain} designates {ip} as permitted sender",
    AuthStatus.FAIL: "{domain} does not designate {ip} as permitted sender",
    AuthStatus.SOFTFAIL: "{domain} discourages use of {ip} as sender",
    AuthStatus.NEUTRAL: "{domain} says nothing about {ip}",
    AuthStatus.NONE: "{domain} does not designate permitted senders",
    AuthStatus.TEMPERROR: "the record of {domain} could not be looked up",
    AuthStatus.PERMERROR: "the record of {domain} cannot be used",
}


def received_spf(verdict: SpfVerdict, *, ip: str, sender: str, helo: str, receiver: str) -> str:
    """Give the value of the field, on one line; `build_field` folds it at its spaces.

    It has no control characters, and nothing beyond US-ASCII but what a local part may have.

    Args:
        verdict: What the check came to.
        ip: The client's address.
        sender: Of the envelope, "" for the null sender.
        helo: What the client calls itself.
        receiver: Our host name.
    """
    about = _COMMENTS[verdict.status].format(
        domain=verdict.domain or "an unknown domain", ip=printable(ip, _LONGEST)
    )
    comment = f"{printable(receiver, _LONGEST)}: {printable(about, 2 * _LONGEST)}"
    pairs = [
        ("client-ip", printable(ip, _LONGEST)),
        ("envelope-from", clean_text(_cut(sender), _LONGEST)),
        ("helo", printable(helo, _LONGEST)),
        ("receiver", printable(receiver, _LONGEST)),
        ("identity", printable(verdict.identity, _LONGEST)),
    ]
    pairs += [
        (key, printable(value, _LONGEST))
        for key, value in (("mechanism", verdict.mechanism), ("problem", verdict.problem))
        if value
    ]
    listed = "; ".join(f"{key}={_value(text)}" for key, text in pairs)
    return f"{verdict.status} ({_escaped(comment, _SPECIAL_IN_COMMENT)}) {listed}"


def _cut(text: str) -> str:
    """Cut to octets, not characters: a line of a header has a limit."""
    return text.encode(errors="replace")[:_LONGEST].decode(errors="ignore")


def _value(text: str) -> str:
    return text if _DOT_ATOM(text) else f'"{_escaped(text, _SPECIAL_IN_QUOTES)}"'


def _escaped(text: str, special: re.Pattern[str]) -> str:
    return special.sub(r"\\\g<0>", text)
