"""Says in one field what has been found out about a message (RFC 8601 §2.2).

A value is written bare where it can be and quoted otherwise. Values that cannot be told without
escapes, have control characters or are too long are left out, so that no reader, however simple,
sees more results than there are; of an address its domain is still told. The field may be folded
at any space: no word comes near the length of a line.
"""

import re
from functools import lru_cache

from elemta.mailauth.verdicts import (
    ArcVerdict,
    Authentication,
    AuthStatus,
    DkimVerdict,
    DmarcVerdict,
    IprevVerdict,
    SpfVerdict,
)

VALUE_LIMIT = 320  # octets: a local part and a domain of the longest (RFC 5321 §4.5.3.1)
REASON_LIMIT = 160  # characters
MAX_SIGNATURES = 50

_KNOWN_VALUES = 1024

_is_bare = re.compile(
    r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]*(?:@[\-.0-9A-Z_a-z]+)?"  # a token, or an address of two
).fullmatch
_is_quotable = re.compile('[^\x00-\x1f\x7f-\x9f"\\\\;()\u2028\u2029\ud800-\udfff]+').fullmatch
_UNSPEAKABLE = re.compile(r"[^ !#-'*-:<->@-\[\]-~]|=(?! |$)")  # controls, quotes, ; ( ) and a=b


def format_results(
    authserv_id: str,
    authentication: Authentication,
    *,
    client_ip: str,
    helo: str,
    sender: str,
    username: str = "",
) -> str:
    """Write the value of a field, without folds.

    It has characters beyond ASCII only where the sender has, which is so only in internationalised
    messages (RFC 8616).

    Args:
        authserv_id: Who says it.
        authentication: What was found out; what was not checked is not spoken of.
        client_ip: Of the client, "" where it has none.
        helo: What the client calls itself.
        sender: Of the envelope, "" for the null path.
        username: Of the client's login, "" without one.

    Raises:
        ValueError: The authserv-id cannot be written.
    """
    who = _property("", authserv_id)
    if not who:
        raise ValueError(f"not an authserv-id: {authserv_id[:80]!r}")
    a, wide = authentication, not sender.isascii()
    parts = [who]
    if username:
        parts.append(f"auth=pass{_address(' smtp.auth=', username, wide=wide)}")
    if a.iprev is not None:
        parts.append(_iprev(a.iprev, client_ip))
    if a.spf_helo is not None:
        parts.append(_spf(a.spf_helo, helo, ""))
    if a.spf is not None and a.spf != a.spf_helo:
        parts.append(_spf(a.spf, helo, sender))
    parts += [_dkim(verdict, wide=wide) for verdict in a.dkim[:MAX_SIGNATURES]]
    if a.dmarc is not None:
        parts.append(_dmarc(a.dmarc))
    if a.arc is not None:
        parts.append(_arc(a.arc, client_ip))
    return "; ".join(parts) if len(parts) > 1 else f"{who}; none"


def _iprev(verdict: IprevVerdict, client_ip: str) -> str:
    comment = f" ({_speakable(verdict.name)})" if verdict.name else ""
    where = _property(" policy.iprev=", client_ip)
    return f"iprev={verdict.status}{comment}{where}"


def _spf(verdict: SpfVerdict, helo: str, sender: str) -> str:
    if verdict.identity == "mailfrom" and sender:
        where = _address(" smtp.mailfrom=", sender, wide=True)
    else:
        where = _property(" smtp.helo=", verdict.domain or helo)
    return f"spf={verdict.status}{_reason(verdict.status, verdict.problem)}{where}"


def _dkim(verdict: DkimVerdict, *, wide: bool) -> str:
    if verdict.status is AuthStatus.NONE:
        return "dkim=none"
    comment = f" ({_about_key(verdict)})" if verdict.key_bits else ""
    reason = _reason(verdict.status, verdict.problem)
    where = (
        _property(" header.d=", verdict.domain)
        + _property(" header.s=", verdict.selector)
        + _property(" header.a=", verdict.algorithm)
        + _address(" header.i=", verdict.identity, wide=wide)
        + _property(" header.b=", verdict.tag)
    )
    return f"dkim={verdict.status}{comment}{reason}{where}"


def _about_key(verdict: DkimVerdict) -> str:
    text = f"{verdict.key_bits}-bit key"
    if verdict.is_testing:
        text += ", testing"
    if verdict.unsigned:
        text += f", {verdict.unsigned} octets not signed"
    return text


def _dmarc(verdict: DmarcVerdict) -> str:
    status, comment, policy = verdict.status, "", ""
    if verdict.published:
        asked = verdict.policy if status is AuthStatus.FAIL else "none"
        done = _speakable(verdict.disposition or asked)
        why = f" override={_speakable(verdict.override)}" if verdict.override else ""
        comment = f" (p={_speakable(verdict.published)} dis={done}{why})"
        policy = _property(" policy.dmarc=", verdict.policy)
    reason = _reason(status, verdict.problem)
    where = _property(" header.from=", verdict.author_domain)
    return f"dmarc={status}{comment}{reason}{where}{policy}"


def _arc(verdict: ArcVerdict, client_ip: str) -> str:
    """Write the state of the chain; a look-up that failed is a failure (RFC 8617 §5.2.1)."""
    status = verdict.status
    comment = f" (i={verdict.instances})" if verdict.instances else ""
    oldest = f" header.oldest-pass={verdict.oldest_pass}" if status is AuthStatus.PASS else ""
    reason = _reason(status, verdict.problem)
    if status is AuthStatus.TEMPERROR:
        status, reason = AuthStatus.FAIL, ' reason="a key could not be looked up"'
    where = _property(" smtp.remote-ip=", client_ip)
    return f"arc={status}{comment}{reason}{oldest}{where}"


def _property(name: str, text: str, *, wide: bool = False) -> str:
    """Write a property, "" if there is nothing that can be told; `wide`: also beyond ASCII."""
    if _is_written_bare(text):
        return f"{name}{text}" if text else ""
    if (wide or text.isascii()) and _is_quotable(text) and len(text.encode()) <= VALUE_LIMIT:
        return f'{name}"{text}"'
    return ""


@lru_cache(_KNOWN_VALUES)
def _is_written_bare(text: str) -> bool:
    """Whether a value can be told as it is: names, addresses and methods come again and again."""
    return len(text) <= VALUE_LIMIT and _is_bare(text) is not None


def _address(name: str, text: str, *, wide: bool) -> str:
    """Write an address, or only its domain where the whole of it cannot be told."""
    if not text:
        return ""
    whole = _property(name, text, wide=wide)
    if whole:
        return whole
    _, at, domain = text.rpartition("@")
    return _property(name, domain) if at else ""


def _reason(status: AuthStatus, problem: str) -> str:
    """Say why it is no pass, but nothing of troubles of our own."""
    if not problem or status in (AuthStatus.PASS, AuthStatus.TEMPERROR):
        return ""
    return f' reason="{_speakable(problem)}"'


def _speakable(text: str) -> str:
    """Cut free text, and take out of it what a simple reader may take for the next result."""
    return _UNSPEAKABLE.sub("?", text[:REASON_LIMIT])
