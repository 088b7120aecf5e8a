"""Refusals in the words of an operator: with an address to ask at, say, or another code.

It says only what is said instead: who is refused, and why, has been decided. Where a code means
something to the dialogue it stays: 421 ends a session, and who connects or logs in is told what
these codes are for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from elemta.mail.reply import Reply, clean_text
from elemta.mail.template import split_template
from elemta.mail.why import Mail, Who

MAX_VALUE = 255  # characters of what others have said
NAMES = ("text", "rule", "client_ip", "helo", "username", "sender", "recipient", "hostname")
"""What texts may name."""

_FIXED_STAGES = frozenset({"connect", "starttls", "tls", "auth"})


@dataclass(frozen=True, slots=True)
class Saying:
    """What is said instead.

    Attributes:
        rule: Of the server, or the name of a plugin; "limits.*" all that begin so, "*" all.
        text: It; "" for the usual words.
        code: The code; 0 for the usual one.
        enhanced: The enhanced code; "" for the usual one.
        changes_class: Where `code` makes "never" of "later", or the other way, that is meant; else
            replies of the other class are left alone.
    """

    rule: str
    text: str = ""
    code: int = 0
    enhanced: str = ""
    changes_class: bool = False

    def fits(self, rule: str, reply: Reply) -> bool:
        """Whether it is about a reply."""
        name = self.rule
        if not (name == rule or (name.endswith("*") and rule.startswith(name[:-1]))):
            return False
        return not self.code or self.changes_class or self.code // 100 == reply.code // 100


def check_text(text: str) -> None:
    """Look whether a text can be filled in.

    Raises:
        ValueError: It names what nothing stands for, or a brace stands alone.
    """
    for piece, is_name in split_template(text):
        if is_name and piece not in NAMES:
            raise ValueError(f"nothing stands for {{{piece}}}; there are {', '.join(NAMES)}")


class Wording:
    """Knows what is said instead.

    Args:
        sayings: The first that fits counts.
        hostname: What we call ourselves.
    """

    def __init__(self, sayings: Sequence[Saying], hostname: str) -> None:
        self._sayings = tuple((each, tuple(split_template(each.text))) for each in sayings)
        self._hostname = hostname

    def reword(self, reply: Reply, rule: str, stage: str, who: Who, mail: Mail) -> Reply:
        """Give what is said in place of a reply; itself where nothing is.

        Args:
            reply: What would be said.
            rule: Of the server, or the name of the plugin behind it.
            stage: When it is said, as records name it.
            who: To whom.
            mail: What it is about.
        """
        found = next((each for each in self._sayings if each[0].fits(rule, reply)), None)
        if found is None:
            return reply
        saying, pieces = found
        text, code, enhanced = reply.text, reply.code, reply.enhanced
        if saying.text:
            values = {
                "text": reply.text.replace("\n", " "),
                "rule": rule,
                "client_ip": who.address,
                "helo": who.helo,
                "username": who.login,
                "sender": mail.sender,
                "recipient": mail.recipients[0] if mail.recipients else "",
                "hostname": self._hostname,
            }
            text = _fill(pieces, values) or text
        if reply.code != 421 and stage not in _FIXED_STAGES:
            code = saying.code or code
            if enhanced is not None:
                enhanced = f"{code // 100}{(saying.enhanced or enhanced)[1:]}"
        return Reply(code, text, enhanced, reply.id)


def _fill(pieces: Iterable[tuple[str, bool]], values: Mapping[str, str]) -> str:
    return "".join(
        clean_text(values[piece], MAX_VALUE) if is_name else piece for piece, is_name in pieces
    ).strip()
