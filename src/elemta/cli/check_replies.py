"""What `elemta check` says of `[[replies]]`: whose words they are."""

from collections.abc import Iterator

from elemta.config import Config, Loaded, Problem


def find_reply_problems(loaded: Loaded, config: Config) -> Iterator[Problem]:
    """Look for names that no rule of the server has, and no plugin that is named."""
    if not config.replies:
        return
    # not before it is needed: that reads the whole server
    from elemta.plugins.finding.problems import nearest  # noqa: PLC0415
    from elemta.server.rules import RULES  # noqa: PLC0415

    checks = {"spf", "dkim", "dmarc", "arc", "iprev", "rate-limiter"}
    known = {*RULES, *config.plugins.named, *checks}
    for index, each in enumerate(config.replies):
        name = each.rule.removesuffix("*")
        if each.rule in known or (name != each.rule and any(k.startswith(name) for k in known)):
            continue
        text = f"no rule of the server is called so, and no plugin{nearest(name, known)}"
        yield loaded.problem(("replies", index, "rule"), text, is_error=False)
