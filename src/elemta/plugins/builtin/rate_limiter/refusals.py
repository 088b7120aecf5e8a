"""What those are told who want more than they may."""

import math

from elemta.plugins import ConnectionContext, Result
from elemta.plugins.builtin.rate_limiter.limit import Limit

_WORDS = {
    "connections": "Too many connections",
    "messages": "Too many messages",
    "recipients": "Too many recipients",
    "bytes": "Too much mail",
}
_LATER = {
    "on_connect": (421, "4.7.0"),
    "on_auth": (454, "4.7.0"),
    "on_data": (452, "4.7.1"),
}
_NEVER = {"on_connect": (554, "5.7.1"), "on_auth": (535, "5.7.0")}


def refuse(limit: Limit, ctx: ConnectionContext, key: str, wait: float) -> Result:
    """Refuse what is over a limit.

    Args:
        limit: The limit.
        ctx: Of the hook: each has codes of its own.
        key: Whose it is, for the operator.
        wait: Seconds after which there is room again.
    """
    settings = limit.settings
    whose = " ".join(key.split("\n")[1:])
    hook = ctx.hook
    own = {"limit": limit.name, "wait": f"{math.ceil(wait)}"}
    said = settings.template.fill(ctx, own).strip() if settings.text else ""
    note = f"limit {limit.name} of {settings.rate} {settings.of}: {whose}: room in {wait:.0f} s"
    if settings.action == "reject":
        code, enhanced = _NEVER.get(hook, (550, "5.7.1"))
        return Result.reject(said or _WORDS[settings.of], code=code, enhanced=enhanced, note=note)
    return _defer(limit, hook, said or f"{_WORDS[settings.of]}, try again later", note)


def refuse_without_store(limit: Limit, hook: str, problem: str) -> Result:
    """Refuse, for now, what cannot be counted."""
    note = f"limit {limit.name} is closed: {problem}"
    return _defer(limit, hook, "Cannot be counted now, try again later", note)


def _defer(limit: Limit, hook: str, text: str, note: str) -> Result:
    code, enhanced = _LATER.get(hook, (450, "4.7.1"))
    if limit.settings.of == "recipients":
        code, enhanced = 452, "4.5.3"
    return Result.defer(text, code=code, enhanced=enhanced, note=note)
