"""Jobs and couriers as tests of delivery need them."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from elemta.delivery import Delivery, DeliverySettings, Route, TlsPolicy, Via
from elemta.mail.address import Address, parse_address
from elemta.mail.errors import CorruptError
from elemta.mail.events import Event
from elemta.mail.ids import QueueId
from elemta.mail.job import Destination, Job
from elemta.mail.message import Facts, Message, Recipient
from elemta.mail.outcome import Outcome, Result
from elemta.net import SystemClock
from elemta.testing import FakeResolver

CONTENT = b"Subject: hello\r\n\r\nA line.\r\n.a dot\r\n"
SETTINGS = DeliverySettings(hostname="me.test", timeout=20.0, connect_timeout=5.0)


@dataclass
class Text:
    """Content at hand in memory."""

    data: bytes = CONTENT

    @property
    def size(self) -> int:
        return len(self.data)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.data


@dataclass
class Pieces:
    """Content that is read from elsewhere, piece by piece; `broken` after the last."""

    pieces: Sequence[bytes]
    broken: bool = False
    data: None = None

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.broken:
            raise CorruptError("not as it was written")


class Post:
    """A courier, what it reported, and a short way to hand it mail."""

    def __init__(self, delivery: Delivery, events: list[Event]):
        self.delivery = delivery
        self.events = events

    async def send(
        self,
        *recipients: str | Address,
        sender: str | Address | None = "ann@example.test",
        content: Text | Pieces | None = None,
        facts: Facts | None = None,
        destination: Destination | None = None,
    ) -> list[Outcome]:
        """Deliver one message; all recipients go the same way: by the routes of now, or as told."""
        envelope = [
            parse_address(each) if isinstance(each, str) else each
            for each in recipients or ("bob@example.org",)
        ]
        author = parse_address(sender) if isinstance(sender, str) else sender
        content = content or Text()
        message = Message(
            QueueId("0000000000000"), author, content.size, 0.0, facts=facts or Facts()
        )
        rows = tuple(Recipient(index, address) for index, address in enumerate(envelope))
        destination = destination or self.delivery.destination(envelope[0], author)
        return list(await self.delivery.deliver(Job(message, rows, destination, content)))


@contextlib.asynccontextmanager
async def post(
    route: Route | None = None,
    settings: DeliverySettings = SETTINGS,
    zone: dict | None = None,
    authority: ssl.SSLContext | None = None,
) -> AsyncIterator[Post]:
    """A courier with one route, or none; `authority` is the TLS context that verifies."""
    events: list[Event] = []
    delivery = Delivery(
        (route,) if route else (),
        settings,
        FakeResolver(zone or {}),
        SystemClock(),
        events.append,
        verified=lambda: authority or ssl.create_default_context(),
    )
    try:
        yield Post(delivery, events)
    finally:
        await delivery.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another task is about to do."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def to_port(port: int, **options) -> Route:
    """A route to a next hop on loopback."""
    return replace(
        Route(("*",), Via.SMTP, host="127.0.0.1", port=port, tls=TlsPolicy.OPPORTUNISTIC), **options
    )


def summary(outcomes: Sequence[Outcome]) -> list[tuple[str, str | None]]:
    """Results with their enhanced codes."""
    return [(outcome.result.value, outcome.reply.enhanced) for outcome in outcomes]


DELIVERED, DEFERRED, FAILED = Result.DELIVERED, Result.DEFERRED, Result.FAILED
