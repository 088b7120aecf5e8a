"""The settings of logging in: by which mechanisms, whose accounts, when and from where."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, PlainValidator, ValidationInfo

from elemta.config.sections import Section, live
from elemta.config.units import MINUTE
from elemta.config.values import (
    Duration,
    File,
    Folder,
    Kind,
    Network,
    Size,
    Whole,
    parse_folder,
)
from elemta.mail.hours import parse_hours

if TYPE_CHECKING:
    from pathlib import Path

_URL = re.compile(r"https://[^\s/?#@]+(/[^\s#]*)?", re.ASCII)
_LOOPBACK_URL = re.compile(
    r"http://(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?(/[^\s#]*)?", re.ASCII
)
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_BEARER = {"OAUTHBEARER", "XOAUTH2"}

Place = tuple[str | int, ...]

Mechanism = Literal[
    "EXTERNAL",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "OAUTHBEARER",
    "XOAUTH2",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
]


def check_hours(value: object) -> str:
    """Let hours of the week pass."""
    if not isinstance(value, str):
        raise ValueError("text in quotes is expected")  # noqa: TRY004 - pydantic collects ValueErrors
    parse_hours(value)
    return value


def check_zone(value: object) -> str:
    """Let the names of time zones pass."""
    if isinstance(value, str) and value:
        try:
            return ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise ValueError('the name of a time zone is expected, such as "Europe/Berlin" or "UTC"')


def parse_keys(value: object, info: ValidationInfo) -> str:
    """Read an https URL, or a path as `parse_folder` does; "" is none."""
    if value == "":
        return ""
    if isinstance(value, str) and "://" in value:
        if not _URL.fullmatch(value.strip()):
            raise ValueError("a path or an https URL is expected")
        return value.strip()
    return str(parse_folder(value, info))


def parse_question(value: object) -> str:
    """Read an https URL, or an http one on this machine; "" is none."""
    text = value.strip() if isinstance(value, str) else None
    if text is None or (text and not (_URL.fullmatch(text) or _LOOPBACK_URL.fullmatch(text))):
        raise ValueError("an https URL is expected, or an http one on this machine")
    return text


def parse_country(value: object) -> str:
    """Read the two letters of a country (ISO 3166-1)."""
    if not isinstance(value, str) or not _COUNTRY.fullmatch(value):
        raise ValueError('two letters are expected, such as "DE"')
    return value.upper()


def check_login(value: object) -> str:
    """Let through what may be a login or the name of a group."""
    if not isinstance(value, str) or not value.strip() or len(value.split()) != 1:
        raise ValueError("a name without spaces is expected")
    return value.strip()


Hours = Annotated[str, BeforeValidator(check_hours), Kind("hours")]
Zone = Annotated[str, PlainValidator(check_zone), Kind("time zone")]
Keys = Annotated[str, PlainValidator(parse_keys), Kind("path or https URL")]
Question = Annotated[str, PlainValidator(parse_question), Kind("URL")]
Country = Annotated[str, BeforeValidator(parse_country), Kind("country")]
Login = Annotated[str, BeforeValidator(check_login), Kind("name")]


class Argon2Config(Section):
    """How much it costs to guess a password, and to verify one: argon2id (RFC 9106).

    A change holds for passwords that are set from then on; older ones are hashed again when they
    are used, where their source can be written.
    """

    memory: Annotated[
        Size, live("Memory for one password.", ge=8 * 1024 * 1024, le=1024 * 1024 * 1024)
    ] = 32 * 1024 * 1024
    passes: Annotated[Whole, live("Passes over it.", ge=1, le=20)] = 3
    lanes: Annotated[Whole, live("Lanes that one password is computed in.", ge=1, le=16)] = 1


class OAuthConfig(Section):
    """The identity provider whose tokens OAUTHBEARER and XOAUTH2 take.

    They are JSON Web Tokens signed by one of its keys, or it is asked about them. Who has a good
    token needs an account in one of the sources all the same.
    """

    issuer: Annotated[str, live("The provider, exactly as its tokens name it (`iss`).")] = ""
    audience: Annotated[
        str, live("What tokens have to be made for (`aud`); with `keys` it is needed.")
    ] = ""
    keys: Annotated[
        Keys,
        live(
            "Where its public keys are (a JWK set): a file, or an https URL. RS256, ES256 and "
            "EdDSA are taken."
        ),
    ] = ""
    introspection: Annotated[
        Question,
        live("Where it is asked about tokens that none of these keys has signed (RFC 7662)."),
    ] = ""
    client_id: Annotated[str, live("What this server is called there; empty: nothing.")] = ""
    client_secret_file: Annotated[File, live("The file with the secret that goes with it.")] = ""
    claim: Annotated[str, live("Which claim of a token is the login.", min_length=1)] = "email"
    scope: Annotated[str, live("What a token has to allow (`scope`); empty: nothing.")] = ""


class SourceConfig(Section):
    """Where accounts are; one table for each. The first source that knows a login decides.

    While a source cannot be asked, logins that no earlier source knows get 454, never 535.
    """

    type: Annotated[
        Literal["sqlite", "file"],
        live(
            '"sqlite" is a database that `elemta user` and the server write, "file" a passwd '
            "file that `elemta user` and people write (docs/accounts.md)."
        ),
    ]
    path: Annotated[
        Folder | None,
        live("Where it is; without it `accounts.db` or `accounts` in `server.state_dir`."),
    ] = None


class RuleConfig(Section):
    """When and from where logins are allowed; one table for each rule.

    All rules that are about an account have to allow a login. Who is refused by one is told the
    same as with a wrong password; the log has the reason.
    """

    logins: Annotated[tuple[Login, ...], live("Whom it is about.")] = ()
    groups: Annotated[
        tuple[Login, ...], live("Likewise, all of these groups; without either, everybody.")
    ] = ()
    hours: Annotated[
        tuple[Hours, ...],
        live('When: "Mon-Fri 08:00-18:00", "Sat 22:00-02:00", "Mon,Wed"; empty: always.'),
    ] = ()
    timezone: Annotated[Zone, live("Whose clock that is, summer time and all.")] = "UTC"
    networks: Annotated[tuple[Network, ...], live("From where.")] = ()
    countries: Annotated[
        tuple[Country, ...],
        live(
            'Likewise: "DE"; the plugin `geoip` has to know where a client is. With neither from '
            "anywhere, with both one of them is enough."
        ),
    ] = ()


class AuthConfig(Section):
    """Logging in: SMTP AUTH (RFC 4954).

    Without sources it is offered where a plugin has `on_auth_start`, and then PLAIN and LOGIN only.
    """

    required_on: Annotated[
        tuple[Literal["mta", "submission", "submissions"], ...],
        live("Kinds of listeners that take mail only from those who have logged in."),
    ] = ("submission", "submissions")
    mechanisms: Annotated[
        tuple[Mechanism, ...],
        live(
            "What is offered: EXTERNAL (client certificates), SCRAM-SHA-256-PLUS, SCRAM-SHA-256, "
            "OAUTHBEARER, XOAUTH2 (`[auth.oauth]`), PLAIN, LOGIN; CRAM-MD5 for old clients keeps "
            "passwords in clear text. The order does not matter.",
            min_length=1,
        ),
    ] = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
    scram_iterations: Annotated[
        Whole,
        live(
            "Iterations of the keys for SCRAM, from 4096: what clients have to compute, and who "
            "stole the keys for each guess. 0: none are kept, and SCRAM cannot be used.",
            ge=0,
            le=10_000_000,
        ),
    ] = 100_000
    remember_for: Annotated[
        Duration,
        live("A verified password is not hashed again for so long; 0: each time.", le=3600),
    ] = MINUTE
    hash_threads: Annotated[
        Whole, live("Threads of each worker that hash passwords.", ge=1, le=64)
    ] = 2
    max_waiting: Annotated[
        Whole, live("Logins of each worker that may wait for them; more get 454.", ge=0, le=10_000)
    ] = 100
    argon2: Argon2Config = Argon2Config()
    oauth: OAuthConfig = OAuthConfig()
    sources: tuple[SourceConfig, ...] = ()
    rules: tuple[RuleConfig, ...] = ()


def find_faults(
    auth: AuthConfig, kinds: set[str], *, has_plugins: bool, knows_countries: bool
) -> Iterator[tuple[Place, str, bool]]:
    """Look at the settings as a whole.

    Args:
        auth: The settings.
        kinds: The kinds of listeners there are.
        has_plugins: There are plugins; one of them might decide on logins.
        knows_countries: One of them says in which country a client is.

    Yields:
        The setting, what is wrong with it, and whether that is an error.
    """
    if not auth.sources:
        for index, kind in enumerate(auth.required_on):
            if kind in kinds:
                text = "nobody can log in there: no [[auth.sources]] has accounts"
                if has_plugins:
                    text += ", unless a plugin has on_auth_start"
                yield ("auth", "required_on", index), text, not has_plugins
    yield from _mechanisms(auth)
    yield from _oauth(auth)
    seen: list[tuple[str, Path | None]] = []
    for index, source in enumerate(auth.sources):
        if (source.type, source.path) in seen:
            yield ("auth", "sources", index), "is there twice", True
        seen.append((source.type, source.path))
    for index, rule in enumerate(auth.rules):
        if not (rule.hours or rule.networks or rule.countries):
            text = "allows everything: it has neither hours nor networks nor countries"
            yield ("auth", "rules", index), text, False
        if rule.countries and not knows_countries:
            text = "needs the plugin geoip, which says where clients are"
            yield ("auth", "rules", index, "countries"), text, True


def _mechanisms(auth: AuthConfig) -> Iterator[tuple[Place, str, bool]]:
    for index, name in enumerate(auth.mechanisms):
        place = ("auth", "mechanisms", index)
        if name == "CRAM-MD5":
            text = "keeps passwords in clear text, and proves them by a broken hash"
            yield place, text, False
        if name.startswith("SCRAM") and not auth.scram_iterations and auth.sources:
            yield place, "cannot be used with scram_iterations = 0", True
        if name in _BEARER and not auth.oauth.issuer:
            yield place, "needs [auth.oauth]: whose tokens are good?", True
    if 0 < auth.scram_iterations < 4096:
        text = "is too few: RFC 7677 asks for at least 4096"
        yield ("auth", "scram_iterations"), text, True


def _oauth(auth: AuthConfig) -> Iterator[tuple[Place, str, bool]]:
    oauth = auth.oauth
    if not oauth.issuer:
        return
    place = "auth", "oauth"
    if not (oauth.keys or oauth.introspection):
        yield (*place, "keys"), "is needed with an issuer, or introspection", True
    if oauth.keys and not oauth.audience:
        yield (*place, "audience"), "is needed with keys", True
    if oauth.client_secret_file and not oauth.client_id:
        yield (*place, "client_id"), "is needed with client_secret_file", True
    if oauth.client_id and not oauth.introspection:
        yield (*place, "client_id"), "has no effect without introspection", False
    if not _BEARER.intersection(auth.mechanisms):
        text = "has no effect: neither OAUTHBEARER nor XOAUTH2 is in [auth] mechanisms"
        yield ("auth", "oauth", "issuer"), text, False
