"""The settings of submission: mail of those who have logged in, and of this machine's users."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator

from elemta.config.auth import Login, Place
from elemta.config.sections import Section, fixed, live
from elemta.config.units import DAY
from elemta.config.values import Duration, File, Kind, Size, Switch, Whole, parse_domain_name

MAX_SOCKET_PATH = 107  # octets: sun_path of unix(7)


def parse_domain_or_none(value: object) -> str:
    """Read a domain; "" is none."""
    return parse_domain_name(value) if value != "" else ""


Way = Literal["accept", "fix", "reject"]
DomainOrNone = Annotated[str, BeforeValidator(parse_domain_or_none), Kind("domain")]


class AllowanceConfig(Section):
    """Beyond this a message has to wait (450 4.7.0); 0 is no limit. What is taken counts."""

    messages_per_hour: Annotated[Whole, live("Messages of one login.", ge=0)] = 0
    messages_per_day: Annotated[Whole, live("Likewise.", ge=0)] = 0
    recipients_per_hour: Annotated[Whole, live("Recipients of its messages.", ge=0)] = 0
    recipients_per_day: Annotated[Whole, live("Likewise.", ge=0)] = 0
    size_per_hour: Annotated[Size, live("All its messages together.")] = 0
    size_per_day: Annotated[Size, live("Likewise.")] = 0
    new_recipients_per_day: Annotated[
        Whole, live("Recipients that it has not written to within a month.", ge=0)
    ] = 0
    addresses_per_day: Annotated[Whole, live("Client addresses that it is used from.", ge=0)] = 0


class HardAllowanceConfig(AllowanceConfig):
    """Who tries to send more than this is locked, and its queued mail held; 0 is no limit.

    What is tried counts, also what is told to wait. `elemta submission release` ends a lock.
    """

    recipients_per_hour: Annotated[Whole, live("Recipients of its messages.", ge=0)] = 10_000


class SubmissionConfig(Section):
    """Mail of those who have logged in (RFC 6409); docs/submission.md tells the rest."""

    socket: Annotated[
        File,
        fixed(
            "Unix socket where users of this machine submit mail without a password: `elemta "
            "sendmail` does. Empty: there is none."
        ),
    ] = ""
    pickup: Annotated[
        File,
        fixed(
            "Folder where `elemta sendmail` leaves mail while the server does not run; empty: "
            "`pickup` in `server.state_dir`. It is used where there is a `socket`."
        ),
    ] = ""
    local_domain: Annotated[
        DomainOrNone,
        live("Domain of the addresses of users of this machine; empty: `server.hostname`."),
    ] = ""
    trusted_users: Annotated[
        tuple[Login, ...], live("Users of this machine that may send as anyone.")
    ] = ("root",)
    future_release: Annotated[
        Duration,
        live(
            "How long a message may ask to be held before it is delivered (FUTURERELEASE, "
            "RFC 4865); 0: that is not on offer."
        ),
    ] = 7 * DAY
    hide_client: Annotated[
        Switch,
        live(
            "Trace headers do not say where a submitted message comes from, but an id that only "
            "this server can make; the log has both (`client_hidden`)."
        ),
    ] = False
    bare_newlines: Annotated[
        Literal["fix", "reject"],
        live("Submitted messages with a bare CR or LF: each becomes CRLF, or they are refused."),
    ] = "fix"
    missing_date: Annotated[Way, live("Messages without Date.")] = "fix"
    missing_message_id: Annotated[Way, live("Messages without Message-ID.")] = "fix"
    missing_from: Annotated[
        Way, live("Messages without From; it is made of the envelope sender, else of the login.")
    ] = "fix"
    bcc: Annotated[Way, live("Messages with a Bcc field; to fix it is to leave it out.")] = "fix"
    broken_header: Annotated[
        Way,
        live("Header sections with a line that is no field; fixed they end before that line."),
    ] = "fix"
    exempt: Annotated[tuple[Login, ...], live("Logins without the limits below.")] = ()
    soft: AllowanceConfig = AllowanceConfig()
    hard: HardAllowanceConfig = HardAllowanceConfig()


def find_submission_faults(
    submission: SubmissionConfig, sockets: set[str | None]
) -> Iterator[tuple[Place, str, bool]]:
    """Look at the settings as a whole.

    Args:
        submission: The settings.
        sockets: Paths that listeners have.

    Yields:
        The setting, what is wrong with it, and whether that is an error.
    """
    place = ("submission", "socket")
    if submission.socket in sockets:
        yield place, "a listener has this address already", True
    if len(submission.socket.encode()) > MAX_SOCKET_PATH:
        yield place, f"is longer than {MAX_SOCKET_PATH} octets", True
    if submission.pickup and not submission.socket:
        yield ("submission", "pickup"), "has no effect without a socket", False
    for name, most in submission.hard:
        least = getattr(submission.soft, name)
        if most and least > most:
            yield ("submission", "soft", name), "is more than the hard limit", False
