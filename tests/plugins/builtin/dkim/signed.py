"""Messages as they leave: with their signatures, judged by another implementation."""

import dkim
import msgspec

from elemta.mail.headers import find_header_end
from elemta.mailauth.keys import PrivateKey
from elemta.plugins import Metadata, Plugin
from elemta.plugins.asking.applying import EditLimits, Revision
from elemta.plugins.builtin.dkim.keystore import KeyState, KeyStore
from elemta.plugins.builtin.dkim.making import describe
from elemta.plugins.builtin.dkim.signing import Signing
from elemta.plugins.builtin.dkim.signing_settings import SigningSettings

RSA = PrivateKey.generate("rsa", 1024)
OTHER_RSA = PrivateKey.generate("rsa", 1024)
ED25519 = PrivateKey.generate("ed25519")
MESSAGE = b"From: Ann <ann@example.test>\r\nTo: bob@other.test\r\nSubject: hello\r\n\r\nhello\r\n"
LIMITS = EditLimits(100_000, 1000, 100, 10_000_000)


class OnlySigning(Plugin[SigningSettings]):
    """A plugin that does nothing else."""

    metadata = Metadata(name="dkim")
    Settings = SigningSettings

    async def setup(self):
        self.signing = Signing(self.settings, self.tools)
        self.on_enqueue = self.signing.on_enqueue

    async def enable(self):
        await self.signing.enable()

    async def disable(self):
        await self.signing.disable()

    async def close(self):
        await self.signing.close()

    def on_enqueue(self, ctx):
        return self.signing.on_enqueue(ctx)


def keep(folder, domain, selector, key, state=KeyState.ACTIVE) -> KeyStore:
    """Put a key into the folder of keys."""
    store = KeyStore(folder)
    entry = msgspec.structs.replace(describe(key, selector, 1.0), state=state)
    store.edit(domain, lambda there: (*there, entry), {selector: key.pem()})
    return store


def apply(message: bytes, edits, trace: bytes = b"Received: by us\r\n") -> bytes:
    """The message as it leaves."""
    end = find_header_end(message)
    revision = Revision(message[:end], None, (), LIMITS, trace=trace)
    revision.apply_all(edits)
    return revision.head + message[end:]


def verdicts(message: bytes, zone: dict[str, str]) -> list[bool]:
    """What dkimpy says of each signature, the topmost first."""

    def ask(name, timeout=5):
        return zone.get(name.decode().rstrip("."), "").encode()

    def judge(at: int) -> bool:
        try:
            return dkim.DKIM(message, minkey=1024).verify(at, ask)
        except dkim.DKIMException:
            return False

    names = [name.lower() for name, _ in dkim.DKIM(message).headers]
    return [judge(at) for at in range(names.count(b"dkim-signature"))]


def zone(*keys) -> dict[str, str]:
    """A zone with keys: (domain, selector, key) of each."""
    return {f"{selector}._domainkey.{domain}": key.record() for domain, selector, key in keys}
