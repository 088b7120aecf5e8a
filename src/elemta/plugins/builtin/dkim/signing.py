"""Signs mail on its way out: the last that is done to a message before it is queued.

Mail of those whose name the server vouches for is signed with the keys of the domain in From. What
is signed is the message as all plugins before have left it; nothing may change it after that. The
body is read once, piece by piece, for all signatures, and RSA is computed in threads.

Logs: a key that should sign and cannot be used.
Leaves behind: DKIM-Signature fields, on top of all others.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

from elemta.mail.errors import PluginError
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.dkim import Signer, SigningKey, SignSettings
from elemta.mailauth.dmarc import AuthorProblem, find_author
from elemta.net.tasks import spawn
from elemta.plugins.builtin._known import tenant_of
from elemta.plugins.builtin.dkim.keyring import Keyring
from elemta.plugins.builtin.dkim.keystore import find_store
from elemta.plugins.builtin.dkim.signing_settings import SigningSettings
from elemta.plugins.builtin.dkim.upkeep import Upkeep
from elemta.plugins.contexts import MessageContext, SessionInfo
from elemta.plugins.edits import InsertHeader
from elemta.plugins.headers import Headers
from elemta.plugins.result import Result
from elemta.plugins.tools import Tools

FIELD = "DKIM-Signature"
THREADS = 2  # that sign with RSA: it frees the interpreter, and a worker has about one core
TELL_EVERY = 60.0  # seconds between lines about one and the same trouble
MAX_TROUBLES = 1000
_LOCAL = ("unix:", "plugin:")  # how the logins of users of this machine and of plugins begin
_KNOWN_SIGNERS = 256  # sets of keys


class Signing:
    """The part of the plugin that signs.

    Attributes:
        keyring: Who signs for whom.
        upkeep: Sees to keys that are new or old.
    """

    def __init__(self, settings: SigningSettings, tools: Tools) -> None:
        store = find_store(settings.keys_dir, tools.state_dir)
        self._settings = settings
        self._tools = tools
        self._sign_settings = SignSettings(expires_after=settings.expire_after or None)
        self._threads: ThreadPoolExecutor | None = None
        self._task: asyncio.Task[None] | None = None
        self._troubles: dict[str, float] = {}
        self.keyring = Keyring(settings, store, tools.clock)
        self.upkeep = Upkeep(store, tools.dns, tools.clock, tools.log, settings.retire_after)

    async def enable(self) -> None:
        """Begin to see to keys."""
        if self._settings.sign and self._task is None:
            self._task = spawn(self.upkeep.run(self._settings.check_every), "dkim keys")

    async def disable(self) -> None:
        """See to keys no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        """End the threads; nothing is signed any more."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def on_enqueue(self, ctx: MessageContext) -> Awaitable[Result | None] | None:
        """Sign a message if it is one of ours."""
        return self._sign(ctx) if self._concerns(ctx.session) else None

    async def sign_message(self, ctx: MessageContext, domain: str) -> str:
        """Give the value of a signature field of a domain that has keys.

        Raises:
            PluginError: It has none that can be used.
        """
        ring = await self.keyring.ring(domain)
        if not ring.keys:
            raise PluginError(ring.trouble or f"{domain} has no key that signs")
        return (await self._make(ring.keys[:1], ctx.headers.raw, ctx.chunks()))[0]

    async def sign_own(self, section: bytes, content: AsyncIterator[bytes]) -> list[InsertHeader]:
        """Give the signature fields of a message that the server itself writes.

        Without a key that can be used there are none: it does not wait.

        Args:
            section: The header section, its empty line included.
            content: The whole message.
        """
        if not self._settings.sign:
            return []
        domain = author_domain(Headers(section))
        ring = await self.keyring.find(domain)
        self._tell(domain, ring.trouble)
        if not ring.keys:
            return []
        values = await self._make(ring.keys, section, content)
        return [InsertHeader(FIELD, value) for value in values]

    # ---- one message

    def _concerns(self, session: SessionInfo) -> bool:
        """Whether the server vouches for whoever sends, and the operator wants it signed."""
        settings = self._settings
        if not settings.sign:
            return False
        if session.username:
            kind = "local" if session.username.startswith(_LOCAL) else "authenticated"
            return kind in settings.sign_for
        return session.is_trusted and "trusted" in settings.sign_for

    async def _sign(self, ctx: MessageContext) -> Result | None:
        domain = self._domain_of(ctx)
        ring = await self.keyring.find(domain, tenant_of(ctx.session))
        if ring.trouble:
            self._tell(domain, ring.trouble)
            if self._settings.on_missing_key == "defer":
                note = f"it cannot be signed for {domain}: {ring.trouble}"
                return Result.defer(
                    "Cannot be signed now, try again later", enhanced="4.7.7", note=note
                )
        if not ring.keys:
            return None
        values = await self._make(ring.keys, ctx.headers.raw, ctx.chunks())
        for key in ring.keys:
            self._tools.metrics.count("signatures", algorithm=key.key.algorithm.replace("-", "_"))
        edits = tuple(InsertHeader(FIELD, value) for value in reversed(values))
        return Result.modify(*edits)

    async def _make(
        self, keys: tuple[SigningKey, ...], section: bytes, content: AsyncIterator[bytes]
    ) -> list[str]:
        """Sign, and give the values of the fields in the order of the keys."""
        signer = _signer(keys, self._sign_settings)
        hasher = BodyHasher((signer.spec,))
        left = len(section)
        async for piece in content:
            if len(piece) > left:
                hasher.update(piece[left:] if left else piece)
            left = max(0, left - len(piece))
        sign = partial(signer.sign, section, hasher.finish()[signer.spec], self._tools.clock.now())
        if all(key.key.kind != "rsa" for key in keys):
            return _values(sign())
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "dkim")
        return _values(await asyncio.get_running_loop().run_in_executor(self._threads, sign))

    def _domain_of(self, ctx: MessageContext) -> str:
        """Give the domain that chooses the keys; "" where there is none."""
        if self._settings.sign_by == "envelope" and ctx.sender is not None:
            return ctx.sender.domain
        return author_domain(ctx.headers)

    def _tell(self, domain: str, trouble: str) -> None:
        """Alert the operator: each kind of trouble again and again, but not for each message."""
        if not trouble:
            return
        self._tools.metrics.count("keys_missing")
        now = self._tools.clock.monotonic()
        last = self._troubles.get(trouble)
        if last is None or now - last >= TELL_EVERY:
            if len(self._troubles) >= MAX_TROUBLES:
                self._troubles.clear()
            self._troubles[trouble] = now
            text = f"mail of {domain or 'no domain'} cannot be signed: {trouble}"
            self._tools.log.error(text)


def author_domain(headers: Headers) -> str:
    """Give the domain of the first author; "" where From is missing, repeated or unreadable."""
    author = find_author(headers.raw)
    is_clear = author.problem in {None, AuthorProblem.SEVERAL, AuthorProblem.TOO_MANY}
    return author.domains[0] if is_clear else ""


@lru_cache(_KNOWN_SIGNERS)
def _signer(keys: tuple[SigningKey, ...], settings: SignSettings) -> Signer:
    return Signer(keys, settings)


def _values(fields: bytes) -> list[str]:
    """Give the values of signature fields, unfolded: the server folds them again.

    Signatures are made over the relaxed form of their own field, in which that is no change.
    """
    text = fields.decode("ascii").replace("\r\n\t", " ")
    return [line.partition(":")[2].strip() for line in text.split("\r\n") if line]
