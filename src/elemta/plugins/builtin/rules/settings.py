"""What an operator writes: rules, lists and where they are."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from elemta.mail.address import parse_address
from elemta.mail.duration import parse_duration
from elemta.plugins import Settings
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.lists.matching import ListKind

MINUTE = 60.0
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

Then = Literal["accept", "reject", "defer", "discard", "quarantine", "continue", "redirect"]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
Name = Annotated[str, Field(pattern=_NAME)]


def _judge_url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("no URL") from None
    if url.scheme != "https" or not url.hostname or port == 0:
        raise ValueError("an https URL is expected")
    if url.username is not None or url.fragment:
        raise ValueError("a URL without credentials and fragment is expected")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a URL in ASCII is expected")
    return text


def _judge_address(text: str) -> str:
    if not parse_address(text).domain:
        raise ValueError("an address with a domain is expected")
    return text


def _judge_recipient(text: str) -> str:
    address = parse_address(f"any{text[1:]}" if text.startswith("*@") else text)
    if not address.domain:
        raise ValueError('an address is expected, or "*@example.test"')
    return f"*@{address.domain}" if text.startswith("*@") else address.key


def expiry_of(value: date | datetime | None) -> float:
    """Give the instant at which something ends; 0 for never. A day (UTC) counts in whole."""
    if value is None:
        return 0.0
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC) + timedelta(days=1)
    elif value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value.timestamp()


class ListSettings(Settings):
    """A list; its entries stand here, in a file, or elsewhere on the net."""

    name: Name = Field(description='Of the list, for `in_list("NAME", ...)`.')
    kind: ListKind = Field(
        description="What its entries are: `address` (and networks), `mail` (whole addresses), "
        "`domain`, `wildcard` (domains, and `*.example.org` for all below), `regex` (RE2), "
        "`country` (two letters) and `asn` (`AS64496`), which the plugin `geoip` knows."
    )
    entries: tuple[str, ...] = Field(default=(), description="Its entries.")
    file: str = Field(
        default="",
        description="A file of entries, one on a line; relative to the file that names it, or to "
        "`server.state_dir`.",
    )
    url: Annotated[str, AfterValidator(lambda text: _judge_url(text) if text else text)] = Field(
        default="", description="Where they are fetched from, by https."
    )
    use: Literal["", "allow", "deny"] = Field(
        default="",
        description="Without any rule: `deny` refuses what is in it, `allow` keeps what is in it "
        "from being refused by such lists.",
    )
    of: str = Field(
        default="",
        description="With `use`: the fact that is looked for; by default what suits the kind: "
        "`client_ip`, `sender`, `sender_domain`, `country` or `asn`.",
    )
    every: Seconds = Field(
        default=60 * MINUTE,
        ge=MINUTE,
        le=7 * 24 * 60 * MINUTE,
        description="How long it is between two fetches, give or take a tenth.",
    )
    max_size: int = Field(
        default=16 << 20, ge=1, le=64 << 20, description="Octets that are fetched at most."
    )
    allow_private: bool = Field(
        default=False,
        description="It may be fetched from loopback, private and other addresses that are not "
        "public.",
    )
    ca_file: str = Field(
        default="", description="Who vouches for the server; empty: whom this machine trusts."
    )

    @model_validator(mode="after")
    def _judge(self) -> "ListSettings":
        if sum(map(bool, (self.entries, self.file, self.url))) > 1:
            raise ValueError("entries, file and url: only one of them")
        if self.of and not self.use:
            raise ValueError("of: only with `use`")
        return self


class RuleSettings(BaseModel):
    """A rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="Of the rule; unique.")
    hook: Moment = Field(
        description="When it is asked: `connect`, `helo`, `mail`, `rcpt`, `headers` (the body is "
        "not yet read), `data` (all is known of the message's origin) or `filter` (what looks at "
        "content has been asked)."
    )
    when: str = Field(default="true", description="The expression; without it the rule is true.")
    then: Then = Field(
        default="continue",
        description="What is done. `accept` asks no more rules and plugins at this moment; "
        "`continue` goes on with the next rule; the others end the asking.",
    )
    code: int | None = Field(default=None, description="Of the reply, for `reject` and `defer`.")
    enhanced: str | None = Field(default=None, description="Likewise: its enhanced code.")
    text: str = Field(
        default="",
        max_length=400,
        description="Likewise: its text; `{sender}` stands for the fact, `{rule}` for the name.",
    )
    tag: dict[str, str] = Field(
        default_factory=dict,
        max_length=16,
        description='Fields that are added to the message: `{ "X-Tag" = "{spf}" }`.',
    )
    redirect: Annotated[
        str, AfterValidator(lambda text: _judge_address(text) if text else text)
    ] = Field(
        default="",
        description="For `redirect`: who gets it instead; at `rcpt` of this recipient, later of "
        "all.",
    )
    relay: bool = Field(
        default=False,
        description="For `accept` at `rcpt`: also of a recipient elsewhere, of a client that may "
        "not relay.",
    )
    only: tuple[Annotated[str, AfterValidator(_judge_recipient)], ...] = Field(
        default=(),
        max_length=1000,
        description="At `data` and `filter`: the recipients that the rule is about, "
        '`"ann@example.test"` or `"*@example.test"`. Others get the message, and the next rule is '
        "asked.",
    )
    spare: tuple[Name, ...] = Field(
        default=(),
        max_length=16,
        description="Plugins that cannot have the message in quarantine, before the queue and in "
        "it, if they are asked later: scanners are when the rule is asked at `data` or before.",
    )
    priority: int = Field(
        default=0, description="Lower ones are asked earlier; equal ones in the order written."
    )
    expires: datetime | date | None = Field(
        default=None, description="When it ends; a day still counts in whole (UTC)."
    )
    observe: bool = Field(
        default=False, description="It is only counted and logged, and has no effect."
    )
    comment: str = Field(default="", max_length=500, description="For people.")

    @model_validator(mode="after")
    def _judge(self) -> "RuleSettings":
        if (self.then == "redirect") is not bool(self.redirect):
            raise ValueError('redirect: an address, and `then = "redirect"`')
        if self.then == "redirect" and self.hook in {Moment.CONNECT, Moment.HELO, Moment.MAIL}:
            raise ValueError("redirect: not before rcpt")
        if self.then not in {"reject", "defer"} and (self.code or self.enhanced or self.text):
            raise ValueError("code, enhanced and text: only for reject and defer")
        if self.relay and (self.then != "accept" or self.hook is not Moment.RCPT):
            raise ValueError("relay: only for accept at rcpt")
        if self.only and self.hook not in {Moment.DATA, Moment.FILTER}:
            raise ValueError("only: only at data and filter")
        if self.only and self.then not in {"quarantine", "redirect", "reject", "discard"}:
            raise ValueError("only: not with this action")
        if self.only and (self.code or self.enhanced):
            raise ValueError("code and enhanced: not with `only`, which is 550 5.7.1")
        if self.spare and self.hook in {Moment.CONNECT, Moment.HELO}:
            raise ValueError("spare: not before mail")
        if self.spare and self.then not in {"continue", "accept", "redirect"}:
            raise ValueError("spare: only where the message is to go on")
        return self


class RuleFile(BaseModel):
    """A file of rules and lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: tuple[RuleSettings, ...] = ()
    lists: tuple[ListSettings, ...] = ()


class RulesSettings(Settings):
    """Rules and lists; they stand here, or in files of their own."""

    files: tuple[Path, ...] = Field(
        default=(),
        description="Files of rules, asked in this order after those written here; relative ones "
        "begin at `server.state_dir`.",
    )
    rule: tuple[RuleSettings, ...] = Field(default=(), description="Rules.")
    lists: tuple[ListSettings, ...] = Field(default=(), description="Lists.")
    specs: tuple[Path, ...] = Field(
        default=(),
        description="Files of cases that must come out as they say; `*.policy.toml` beside `files` "
        "are found without this.",
    )
    watch: Seconds = Field(
        default=5.0,
        ge=0.1,
        le=3600,
        description="How often it is looked whether a file has changed.",
    )
