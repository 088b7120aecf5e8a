"""`elemta auth-check`: what mail authentication comes to for a stored message, step by step."""

import asyncio
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, TypedDict, TypeVar, Unpack

import click
from pydantic import BaseModel, ValidationError

from elemta.app import settings as derive
from elemta.app.dkim import told
from elemta.cli.options import config_option, load_config
from elemta.cli.output import OK, PROBLEM, TEMPORARY, fail, json_option, put_json
from elemta.cli.send import AddressType
from elemta.config import Config
from elemta.mail.address import Address, parse_path
from elemta.mail.errors import AddressError
from elemta.mail.headers import build_field, find_field, find_header_end
from elemta.mail.reply import clean_text
from elemta.mailauth import Authentication, AuthStatus
from elemta.mailauth.arc import ArcSettings, ChainVerifier
from elemta.mailauth.authres import forged, format_results
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.dkim import DkimSettings, Verifier
from elemta.mailauth.dmarc import DmarcChecker, DmarcSettings, decide, find_author
from elemta.mailauth.fields import Fields
from elemta.mailauth.iprev import check_iprev
from elemta.mailauth.resolving import Resolver
from elemta.mailauth.spf import SpfChecker, SpfSettings, subject_of
from elemta.net import DnsResolver
from elemta.net.clock import SystemClock
from elemta.net.references import forget
from elemta.plugins.builtin.arc.plugin import ArcPluginSettings
from elemta.plugins.builtin.authentication_results import FIELD, ResultsSettings
from elemta.plugins.builtin.dkim.verifying import VerifyingSettings
from elemta.plugins.builtin.dmarc import DmarcPluginSettings
from elemta.plugins.builtin.spf import SpfPluginSettings

M = TypeVar("M", bound=BaseModel)
LINE = 4000  # characters of a step that are shown


class Options(TypedDict):
    """The options of the command."""

    ip: str
    helo: str
    sender: Address | None
    config_path: Path | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class Given:
    """What is judged.

    Attributes:
        section, body: The message, its lines ended by CRLF.
        ip, helo: Of the client, "" for what is not known.
        sender: Of the envelope, None for the null sender.
        has_sender: Whether anything is known of that.
    """

    section: bytes
    body: bytes
    ip: str
    helo: str
    sender: Address | None
    has_sender: bool


@dataclass(slots=True)
class Found:
    """What came of it.

    Attributes:
        about: All verdicts.
        steps: How each came about: the check and its lines.
        disposition: What DMARC does: "none", "quarantine" or "reject".
        is_open: Seals that cannot be judged for now could make it milder.
        removed: How many fields claim to be ours.
        field: The value of the field that is added.
    """

    about: Authentication = field(default_factory=Authentication)
    steps: list[tuple[str, list[str]]] = field(default_factory=list)
    disposition: str = "none"
    is_open: bool = False
    removed: int = 0
    field: str = ""

    def begin(self, check: str) -> list[str]:
        """Begin with a check; where its steps go."""
        lines: list[str] = []
        self.steps.append((check, lines))
        return lines


def _check_ip(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return str(ip_address(value)) if value else ""
    except ValueError:
        raise click.BadParameter("an IP address is expected") from None


@click.command("auth-check")
@click.argument("file", type=click.File("rb"), metavar="FILE")
@click.option(
    "--ip",
    default="",
    callback=_check_ip,
    help="Address of the client; without it SPF is not checked.",
)
@click.option("--helo", default="", help="What the client called itself.")
@click.option(
    "--from",
    "sender",
    type=AddressType(),
    help='Who sent it, "<>" for nobody; else Return-Path says it.',
)
@config_option
@json_option
@click.pass_context
def auth_check(ctx: click.Context, file: BinaryIO, **options: Unpack[Options]) -> None:
    """Judge the message in FILE ("-" for stdin) as the server would, and tell how.

    SPF, DKIM, ARC and DMARC are checked with the settings of the configuration, by its name
    servers. Exit status: 0 it would be taken, 1 DMARC would have it refused or kept, 75 something
    could not be looked up.
    """
    config = load_config(options["config_path"])
    message = file.read()
    is_given = ctx.get_parameter_source("sender") is click.core.ParameterSource.COMMANDLINE
    given = _read(message, options["ip"], options["helo"], options["sender"], is_given=is_given)
    found = asyncio.run(_judge(given, config))
    if options["as_json"]:
        put_json(_as_json(found))
    else:
        _put(found)
    raise SystemExit(_status(found))


def _read(message: bytes, ip: str, helo: str, sender: Address | None, *, is_given: bool) -> Given:
    """Take a message apart; a file may have the line ends of its system."""
    if b"\r\n" not in message:
        message = message.replace(b"\n", b"\r\n")
    end = find_header_end(message)
    end = len(message) if end < 0 else end
    section = message[:end]
    path = find_field(section, b"return-path")
    if not is_given and path is not None:
        try:
            sender, _ = parse_path(path.strip(), allow_utf8=True)
        except AddressError as error:
            fail(f"Return-Path: {error}: use --from")
    return Given(section, message[end:], ip, helo, sender, is_given or path is not None)


async def _judge(given: Given, config: Config) -> Found:
    clock = SystemClock()
    resolver = DnsResolver(derive.dns_settings(config), clock)
    found, now = Found(), clock.now()
    if given.ip:
        await _judge_client(given, config, resolver, now, found)
    await _judge_signatures(given, config, resolver, now, found)
    await _judge_author(given, config, resolver, found)
    results = _settings(config, "authentication-results", ResultsSettings)
    name = results.authserv_id or config.server.hostname
    found.removed = len(forged(given.section, name))
    sender = str(given.sender) if given.sender is not None else ""
    found.field = format_results(
        name, found.about, client_ip=given.ip, helo=given.helo, sender=sender
    )
    return found


async def _judge_client(
    given: Given, config: Config, resolver: Resolver, now: float, found: Found
) -> None:
    """Look at the address: its name, and whether it may send for those who it says it is."""
    verdict = found.about.iprev = await check_iprev(resolver, given.ip)
    name = f" {verdict.name}" if verdict.name else ""
    why = f": {verdict.problem}" if verdict.problem else ""
    found.begin("iprev").append(f"{given.ip}: {verdict.status}{name}{why}")
    settings = _settings(config, "spf", SpfPluginSettings)
    limits = SpfSettings(
        max_lookups=settings.max_lookups,
        max_void_lookups=settings.max_void_lookups,
        hostname=config.server.hostname,
    )
    checker = SpfChecker(resolver, limits)
    if given.helo and settings.check_helo:
        about = subject_of("helo", None, given.helo)
        found.about.spf_helo = await checker.check(
            given.ip,
            about.domain,
            about.sender,
            given.helo,
            identity="helo",
            now=now,
            steps=found.begin("spf helo"),
        )
    if given.has_sender and (given.sender is not None or given.helo):
        about = subject_of("mailfrom", given.sender, given.helo)
        found.about.spf = await checker.check(
            given.ip,
            about.domain,
            about.sender,
            given.helo,
            now=now,
            steps=found.begin("spf mailfrom"),
        )


async def _judge_signatures(
    given: Given, config: Config, resolver: Resolver, now: float, found: Found
) -> None:
    """Look at DKIM signatures and ARC seals."""
    dkim = _settings(config, "dkim", VerifyingSettings)
    arc = _settings(config, "arc", ArcPluginSettings)
    judging = DkimSettings(
        max_signatures=dkim.max_signatures,
        min_key_bits=dkim.min_key_bits,
        ignore_length=dkim.accept_partial,
    )
    fields = Fields(given.section)
    verifier = Verifier(fields, judging, now)
    chain = ChainVerifier(fields, ArcSettings(max_sets=arc.max_sets), now)
    hasher = BodyHasher((*verifier.specs, *chain.specs))
    hasher.update(given.body)
    digests, sizes = hasher.finish(), hasher.sizes
    about = found.about
    about.dkim = await verifier.judge(digests, sizes, resolver, found.begin("dkim"))
    about.arc = await chain.judge(digests, sizes, resolver, found.begin("arc"))


async def _judge_author(given: Given, config: Config, resolver: Resolver, found: Found) -> None:
    """Look at what the domain in From wants."""
    settings = _settings(config, "dmarc", DmarcPluginSettings)
    judging = DmarcSettings(
        discovery=settings.discovery,
        policy_limit=settings.policy,
        overrides=settings.overrides,
        trusted_sealers=frozenset(settings.trusted_sealers),
    )
    about, steps = found.about, found.begin("dmarc")
    checker = DmarcChecker(resolver, judging)
    author = find_author(given.section)
    judged = await checker.check_author(author, about.spf, about.dkim, steps=steps)
    disposition = decide(judged.verdict, judging, about.arc)
    about.dmarc = disposition.recorded_in(judged.verdict)
    found.disposition, found.is_open = disposition.policy, disposition.is_open
    why = f" ({disposition.reason}: {disposition.comment})" if disposition.reason else ""
    later = "; trusted seals cannot be judged for now" if disposition.is_open else ""
    steps.append(f"disposition: {disposition.policy}{why}{later}")


def _settings(config: Config, plugin: str, model: type[M]) -> M:
    """Give the settings of a plugin, whether it is asked or not."""
    known = model.model_fields
    values = {name: value for name, value in told(config, plugin).items() if name in known}
    try:
        return model.model_validate(forget(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, ("plugins", plugin, *first["loc"])))
        fail(f"{name}: {first['msg']}")


def _status(found: Found) -> int:
    if found.disposition != "none" and not (found.is_open and found.disposition == "reject"):
        return PROBLEM
    about = found.about
    verdicts = (about.iprev, about.spf_helo, about.spf, *about.dkim, about.arc, about.dmarc)
    is_down = any(each is not None and each.status is AuthStatus.TEMPERROR for each in verdicts)
    return TEMPORARY if is_down else OK


def _put(found: Found) -> None:
    for check, lines in found.steps:
        click.echo(check)
        for line in lines:
            click.echo(f"    {clean_text(line, LINE)}")
    if found.removed:
        click.echo(f"{found.removed} fields {FIELD} claim to be ours, and would be removed")
    click.echo(build_field(FIELD, found.field, utf8=True).decode().replace("\r\n", "\n"), nl=False)


def _as_json(found: Found) -> dict[str, object]:
    about = found.about

    def verdict(of: object) -> object:
        return None if of is None else asdict(of)  # type: ignore[call-overload]

    return {
        "iprev": verdict(about.iprev),
        "spf_helo": verdict(about.spf_helo),
        "spf": verdict(about.spf),
        "dkim": [asdict(each) for each in about.dkim],
        "arc": verdict(about.arc),
        "dmarc": verdict(about.dmarc),
        "disposition": found.disposition,
        "removed": found.removed,
        "field": f"{FIELD}: {found.field}",
        "steps": [{"check": check, "lines": lines} for check, lines in found.steps],
    }
