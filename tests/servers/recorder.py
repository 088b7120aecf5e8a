"""A next hop that writes down what it gets: `elemta.testing.Peer` in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from elemta.testing import Peer


@dataclass(frozen=True)
class Recorded:
    """One message as it came: the arguments of its commands, its content with dots stuffed."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass(frozen=True)
class Recorder:
    """A next hop; `messages` is what it has taken so far."""

    peer: Peer

    @property
    def port(self) -> int:
        return self.peer.port

    def messages(self) -> list[Recorded]:
        """Read the sessions: the envelope of each message is what came before its DATA."""
        found = []
        for session in self.peer.sessions:
            contents = iter(tuple(session.contents))
            sender, recipients = "", []
            for command in tuple(session.commands):
                verb, _, path = command.partition(":")
                if verb == "MAIL FROM":
                    sender, recipients = path, []
                elif verb == "RCPT TO":
                    recipients.append(path)
                elif verb == "DATA":
                    content = next(contents, None)
                    if content is None:
                        break
                    found.append(Recorded(sender, tuple(recipients), content))
        return found


@contextlib.contextmanager
def recording(**options) -> Iterator[Recorder]:
    """Serve until the end of the block; options as of `Peer`."""
    peer = Peer(**options)
    started, loops = threading.Event(), []

    async def serve() -> None:
        async with peer:
            stop = asyncio.Event()
            loops.append((asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield Recorder(peer)
    finally:
        for loop, stop in loops:
            loop.call_soon_threadsafe(stop.set)
        thread.join(10)
