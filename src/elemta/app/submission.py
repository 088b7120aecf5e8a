"""What those who submit mail have to do with, for one worker: made from the configuration."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from elemta.accounts.account import AccountError
from elemta.accounts.prepare import PrepareError, prepare_login
from elemta.accounts.server_key import load_key
from elemta.app.pickup import Pickup
from elemta.config import Config
from elemta.config.submission import AllowanceConfig
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import ConfigError, SpoolError
from elemta.mail.ids import SessionId
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.queue.admin import Order, Verb
from elemta.queue.control import Control
from elemta.queue.store import PATTERN_LIMIT, Filter
from elemta.server.limits import Counters, Quotas
from elemta.server.submission import (
    Allowance,
    Allowances,
    Desk,
    FixSettings,
    LocalUsers,
    Locks,
    SubmissionSettings,
)
from elemta.server.submission.pickup import make_pickup
from elemta.server.surroundings import Surroundings

HOLD_WITHIN = 60.0  # seconds: a worker that is busy, or begins anew, still hears of the order


def submission_settings(config: Config) -> SubmissionSettings:
    """How mail of those who have logged in is taken, for the server room."""
    submission = config.submission
    return SubmissionSettings(
        fixes=FixSettings(
            date=submission.missing_date,
            message_id=submission.missing_message_id,
            author=submission.missing_from,
            bcc=submission.bcc,
            broken_header=submission.broken_header,
        ),
        hides_client=submission.hide_client,
        soft=_allowance(submission.soft),
        hard=_allowance(submission.hard),
        exempt=frozenset(_normal_forms(submission.exempt)),
    )


def _normal_forms(logins: Sequence[str]) -> Iterator[str]:
    """Give logins as accounts have them, and as they are: users of this machine keep their case."""
    for login in logins:
        yield login
        try:
            yield prepare_login(login)
        except PrepareError as error:
            raise ConfigError("[submission] exempt", str(error)) from error


def local_users(config: Config) -> LocalUsers:
    """Who may submit by the socket, and as whom."""
    submission = config.submission
    domain = submission.local_domain or config.server.hostname
    return LocalUsers(domain, frozenset(submission.trusted_users))


def _allowance(config: AllowanceConfig) -> Allowance:
    return Allowance(
        messages=(config.messages_per_hour, config.messages_per_day),
        recipients=(config.recipients_per_hour, config.recipients_per_day),
        octets=(config.size_per_hour, config.size_per_day),
        new_recipients=config.new_recipients_per_day,
        addresses=config.addresses_per_day,
    )


class WorkerSubmission:
    """Submission in one worker."""

    def __init__(self, config: Config, counters: Counters, clock: Clock, emit: ev.Emit) -> None:
        self._state_dir = Path(config.server.state_dir)
        self._quotas = Quotas(counters, clock)
        self._locks = Locks(self._state_dir)
        self._clock = clock
        self._emit = emit
        self._desk: Desk | None = None
        self._counters = counters
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(
        self,
        config: Config,
        around: Callable[[str], Surroundings],
        next_session_id: Callable[[], SessionId],
    ) -> None:
        """Let all users of this machine submit mail: the kernel says who they are.

        Args:
            config: Where.
            around: Gives the surroundings of a listener, by its address.
            next_session_id: For what is picked up; one worker does that for all.
        """
        address, folder = f"unix:{config.submission.socket}", config.pickup
        if folder is None or self._counters.worker:
            return
        try:
            Path(config.submission.socket).chmod(0o666)
            make_pickup(folder)
        except OSError as error:
            self._emit(ev.Notice("submission", f"not everybody can submit mail: {error}"))
        pickup = Pickup(folder, lambda: around(address), next_session_id, self._clock, self._emit)
        self._running = spawn(pickup.run(self._stop), "pickup")

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109 - told, not waited for
        """Take in what is under way, and end."""
        self._stop.set()
        if self._running is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._running

    @property
    def desk(self) -> Desk | None:
        """What new sessions need."""
        return self._desk

    def take(self, desk: Desk) -> None:
        """Let new sessions have what has been prepared."""
        self._desk = desk

    def prepare(self, config: Config) -> Desk:
        """Make what sessions need, without letting them have it.

        Raises:
            ConfigError: The key of this server cannot be read.
        """
        settings = submission_settings(config)
        allowances = Allowances(
            settings, self._quotas, self._locks, self._clock, self._emit, self.hold
        )
        return Desk(config.server.hostname, settings, allowances, hiding_key(config), self._emit)

    async def hold(self, login: str, why: str) -> None:
        """Hold what a login has in the queue, in all workers."""
        try:
            where = Filter(login=login[:PATTERN_LIMIT])
            order = Order(Verb.HOLD, where, clean_text(why, 200))
            await asyncio.to_thread(self._place, order)
        except SpoolError as error:
            self._emit(ev.Notice(f"mail of {login} is not held", str(error)))

    def _place(self, order: Order) -> None:
        now = self._clock.now()
        with contextlib.closing(Control(self._state_dir / "control.db")) as control:
            control.place(order, now, now + HOLD_WITHIN)


def hiding_key(config: Config) -> bytes:
    """Give the key of the ids that stand for clients; b"" where none are hidden.

    Raises:
        ConfigError: It cannot be read.
    """
    if not config.submission.hide_client:
        return b""
    try:
        return load_key(Path(config.server.state_dir))
    except AccountError as error:
        raise ConfigError("[server] state_dir", str(error)) from error
