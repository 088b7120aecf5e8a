"""A policy server that says what a test wants, and remembers what it was asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from servers.process import free_port


@dataclass
class PolicyPuppet:
    """Answers each question with `say` of its attributes: octets, or None for the end.

    Attributes:
        asked: The questions.
        connections: How many there were.
        open: How many there are.
        ended: Set when there is none any more.
    """

    port: int
    say: Callable[[dict[str, str]], bytes | None]
    asked: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    lines = (await reader.readuntil(b"\n\n")).decode().strip().split("\n")
                    question = dict(line.split("=", 1) for line in lines)
                    self.asked.append(question)
                    answer = self.say(question)
                    if answer is None:
                        break
                    writer.write(answer)
                    await writer.drain()
        finally:
            self.open -= 1
            if not self.open:
                self.ended.set()
            writer.close()


def always(action: str) -> Callable[[dict[str, str]], bytes]:
    """Answers with the same action."""
    return lambda question: f"action={action}\n\n".encode()


@contextlib.asynccontextmanager
async def policy_puppet(
    say: str | Callable[[dict[str, str]], bytes | None] = "DUNNO", port: int = 0
) -> AsyncIterator[PolicyPuppet]:
    """Run one in this loop."""
    found = PolicyPuppet(port or free_port(), always(say) if isinstance(say, str) else say)
    server = await asyncio.start_server(found.serve, "127.0.0.1", found.port)
    try:
        yield found
    finally:
        server.close()
        while found.open:
            found.ended.clear()
            await found.ended.wait()
