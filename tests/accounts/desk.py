"""An authenticator with accounts in memory, and the client's side of a dialogue."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from elemta.accounts import Account, Authenticator, AuthSettings, Challenge, Claim, Peer, Record
from elemta.accounts.hashes import Argon2Settings
from elemta.accounts.passwords import Keeping, with_password
from elemta.accounts.settings import MECHANISMS
from elemta.accounts.source import AccountSource, RegisterSource
from elemta.testing import FakeClock
from elemta.testing.accounts import MemoryRegister

if TYPE_CHECKING:
    from elemta.mail import events as ev

ARGON2 = Argon2Settings(memory=64, passes=1)
KEEPING = Keeping(ARGON2, scram_iterations=4096)
PEER = Peer("192.0.2.1", "submission", is_tls=True)
BOUND = replace(PEER, tls_exporter=b"e" * 32, tls_server_end_point=b"s" * 32)


def auth_settings(**changes: Any) -> AuthSettings:
    values: dict[str, Any] = {
        "hostname": "mx.example.test",
        "key": b"key of this server",
        "argon2": ARGON2,
        "scram_iterations": 4096,
        "mechanisms": frozenset(MECHANISMS) - {"CRAM-MD5"},
    }
    return AuthSettings(**{**values, **changes})


class Desk:
    """An authenticator, its register, its clock and what it has told."""

    def __init__(self, sources: Sequence[AccountSource] | None = None, **changes: Any) -> None:
        self.register = MemoryRegister()
        self.clock = FakeClock()
        self.events: list[ev.Event] = []
        if sources is None:
            sources = [RegisterSource(self.register)]
        self.auth = Authenticator(auth_settings(**changes), sources, self.clock, self.events.append)

    def add(self, login: str, password: str = "", keeping: Keeping = KEEPING, **more: Any) -> None:
        account = Account(login, **more)
        record = Record(account)
        if password:
            record = with_password(record, password, keeping)
        self.put(record)

    def put(self, record: Record) -> None:
        self.register.edit(record.account.name, lambda _: record)

    def change(self, login: str, **changes: Any) -> None:
        record = self.register.find(login)
        assert record is not None
        self.put(replace(record, **changes))

    def change_account(self, login: str, **changes: Any) -> None:
        record = self.register.find(login)
        assert record is not None
        self.put(replace(record, account=replace(record.account, **changes)))

    async def say(self, login: str, password: str, *, authzid: str = "", peer: Peer = PEER):
        """Log in with PLAIN."""
        exchange = self.auth.begin("PLAIN", peer)
        assert exchange is not None
        response = b"\0".join(part.encode() for part in (authzid, login, password))
        claim = await exchange.respond(response)
        assert isinstance(claim, Claim)
        return await self.auth.judge(claim, peer)

    async def scram(self, login: str, password: str, *, mechanism: str, peer: Peer = PEER):
        """Log in with SCRAM, the client being another implementation."""
        exchange = self.auth.begin(mechanism, peer)
        assert exchange is not None
        claim = await run_scram(exchange, login, password, mechanism=mechanism, peer=peer)
        return await self.auth.judge(claim, peer)


async def run_scram(exchange, login, password, *, mechanism, peer) -> Claim:
    from scramp import ScramClient, ScramException  # noqa: PLC0415

    binding = None
    if mechanism.endswith("-PLUS"):
        binding = ("tls-server-end-point", peer.bindings["tls-server-end-point"])
    client = ScramClient([mechanism], login, password, channel_binding=binding)
    answer = await exchange.respond(client.get_client_first().encode())
    if isinstance(answer, Claim):
        return answer
    client.set_server_first(answer.data.decode())
    answer = await exchange.respond(client.get_client_final().encode())
    if isinstance(answer, Claim):
        return answer
    assert isinstance(answer, Challenge)
    try:
        client.set_server_final(answer.data.decode())
    except ScramException as error:
        raise AssertionError("the server's signature is wrong") from error
    end = await exchange.respond(b"")
    assert isinstance(end, Claim)
    return end
