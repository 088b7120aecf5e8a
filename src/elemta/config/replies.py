"""The settings of what clients are told in other words."""

import re
from typing import Annotated

from pydantic import AfterValidator, model_validator

from elemta.config.sections import Section, live
from elemta.config.values import Kind, Switch, Whole
from elemta.mail.wording import Saying, check_text

MAX_LINES = 5
MAX_LINE = 400  # characters; RFC 5321 §4.5.3.1.5 allows 512 octets with code and id
_RULE = re.compile(r"\*|[a-z][a-z0-9_.-]{0,63}\*?")
_ENHANCED = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")


def _judge_rule(text: str) -> str:
    if not _RULE.fullmatch(text):
        raise ValueError(
            'a name is expected as `elemta why` shows it, such as "relay", "limits.*" or "greylist"'
        )
    return text


def _judge_text(text: str) -> str:
    lines = text.split("\n")
    if len(lines) > MAX_LINES or any(len(line) > MAX_LINE for line in lines):
        raise ValueError(f"at most {MAX_LINES} lines of {MAX_LINE} characters are expected")
    if any(not line.isprintable() for line in lines):
        raise ValueError("text without control characters is expected")
    check_text(text)
    return text


def _judge_enhanced(text: str) -> str:
    if text and not _ENHANCED.fullmatch(text):
        raise ValueError('an enhanced code is expected, such as "5.7.1"')
    return text


Rule = Annotated[str, AfterValidator(_judge_rule), Kind("name of a rule or plugin")]
Text = Annotated[str, AfterValidator(_judge_text), Kind("text")]
Enhanced = Annotated[str, AfterValidator(_judge_enhanced), Kind("enhanced code")]


class ReplyConfig(Section):
    """What clients are told who are refused, in other words; the first table that fits counts.

    `elemta why` names the rule or the plugin behind a refusal: [why](why.md).
    """

    rule: Annotated[
        Rule,
        live(
            'Whose refusals: of a rule of the server ("relay"), of a plugin ("greylist"), of all '
            'that begin so ("limits.*"), or all ("*").'
        ),
    ]
    text: Annotated[
        Text,
        live(
            "What is said, in several lines where it has them. `{text}` stands for the usual words,"
            " `{rule}`, `{client_ip}`, `{helo}`, `{username}`, `{sender}`, `{recipient}` and"
            " `{hostname}` for what they say; the id of the refusal follows. Empty: the usual"
            " words."
        ),
    ] = ""
    code: Annotated[
        Whole | None,
        live(
            "The code. Refusals of the other class, 4xx or 5xx, are left alone. 421 stays what it "
            "is, and so do codes in place of the banner, at STARTTLS and at AUTH.",
            ge=400,
            le=599,
        ),
    ] = None
    enhanced: Annotated[
        Enhanced, live("The enhanced code; its first digit is that of the code.")
    ] = ""
    other_class: Annotated[
        Switch,
        live(
            "Refusals of the other class get `code`, too: 5xx in place of 4xx is for good, and 4xx "
            "in place of 5xx has clients come again."
        ),
    ] = False

    @model_validator(mode="after")
    def _judge(self) -> "ReplyConfig":
        if not (self.text or self.code or self.enhanced):
            raise ValueError("text, code or enhanced is expected")
        if self.code == 421:
            raise ValueError("code: 421 ends sessions, which is not for words to say")
        if self.other_class and not self.code:
            raise ValueError("other_class needs a code")
        return self

    @property
    def saying(self) -> Saying:
        """The same as the server takes it."""
        return Saying(self.rule, self.text, self.code or 0, self.enhanced, self.other_class)
