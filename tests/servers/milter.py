"""A milter that says what a test wants, and remembers what it was told."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from servers.process import free_port

ALL_WISHES = 0x1FF
CONTINUE = ("c", b"")
Say = tuple[str, bytes] | bytes | None
"""An answer: a letter and its data, raw octets, or None for the end of the connection."""
Script = Mapping[str, Sequence[Say] | Callable[[bytes], Sequence[Say]]]


def insert(index: int, name: str, value: str) -> Say:
    return "i", struct.pack("!I", index) + f"{name}\0{value}\0".encode()


def change(index: int, name: str, value: str) -> Say:
    return "m", struct.pack("!I", index) + f"{name}\0{value}\0".encode()


def add(name: str, value: str) -> Say:
    return "h", f"{name}\0{value}\0".encode()


@dataclass
class Puppet:
    """What it says to each command, by its letter; what is not in `script` gets "continue".

    Attributes:
        script: Answers, all said one after the other; or what makes them of a command's data.
        version, wishes, options: What it negotiates.
        macros: Lists it wants to know, as octets after the negotiation.
        hangs: Letters that it never answers.
        told: Commands and data, in order; macros are in `known`.
        known: The macros, by the command they came for.
        connections: How many there were.
        open: How many there are.
        ended: Set when there is none any more.
        reached: Set when it begins to hang.
    """

    port: int
    script: Script = field(default_factory=dict)
    version: int = 6
    wishes: int = ALL_WISHES
    options: int = 0
    macros: bytes = b""
    hangs: str = ""
    told: list[tuple[str, bytes]] = field(default_factory=list)
    known: dict[str, dict[str, str]] = field(default_factory=dict)
    connections: int = 0
    open: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def letters(self) -> str:
        """The commands it was told, in order."""
        return "".join(letter for letter, _ in self.told)

    def data(self, letter: str) -> list[bytes]:
        """What came with commands of that letter."""
        return [data for each, data in self.told if each == letter]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(reader, writer):
                    await writer.drain()
        finally:
            self.open -= 1
            if not self.open:
                self.ended.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        octets = await reader.readexactly(length)
        letter, data = chr(octets[0]), octets[1:]
        if letter == "D":
            parts = data[1:].split(b"\0")[:-1]
            names, values = parts[::2], parts[1::2]
            self.known[chr(data[0])] = {
                name.decode().strip("{}"): value.decode()
                for name, value in zip(names, values, strict=True)
            }
            return True
        self.told.append((letter, data))
        if letter in self.hangs:
            self.reached.set()
            await reader.read()
            return False
        if letter == "Q" or (letter in "AK" and letter not in self.script):
            return letter != "Q"
        if letter == "O" and "O" not in self.script:
            terms = struct.pack("!III", self.version, self.wishes, self.options) + self.macros
            return self._say(writer, ("O", terms))
        silent: tuple[Say, ...] = () if self._is_silent(letter) else (CONTINUE,)
        said = self.script.get(letter, silent)
        return all(self._say(writer, each) for each in (said(data) if callable(said) else said))

    def _is_silent(self, letter: str) -> bool:
        bits = {"C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000}
        bits |= {"U": 0x20000, "L": 0x80, "N": 0x40000, "B": 0x80000}
        return bool(self.options & bits.get(letter, 0))

    def _say(self, writer: asyncio.StreamWriter, say: Say) -> bool:
        if say is None:
            return False
        if not isinstance(say, bytes):
            letter, data = say
            say = struct.pack("!I", len(data) + 1) + letter.encode() + data
        writer.write(say)
        return True


@contextlib.asynccontextmanager
async def puppet(script: Script | None = None, **about) -> AsyncIterator[Puppet]:
    """Run one in this loop."""
    found = Puppet(about.pop("port", 0) or free_port(), script or {}, **about)
    server = await asyncio.start_server(found.serve, "127.0.0.1", found.port)
    try:
        yield found
    finally:
        server.close()
        while found.open:
            found.ended.clear()
            await found.ended.wait()
