"""`elemta sendmail -bs`: whoever has called speaks SMTP with the server itself.

Programs that write all they have to say before they read, and end lines with LF alone, as programs
of this machine do, are understood: each command waits for the reply to the one before, and gets
its CRLF. Whose first line ends with CRLF is taken at its word: then nothing is changed, and an LF
alone is for the server to judge.
"""

import contextlib
import enum
import os
import select
import socket

PIECE = 64 * 1024  # octets read at a time, and of a line that is passed on before it ends
_CRLF, _LF = b"\r\n", b"\n"


class _State(enum.Enum):
    REPLY = enum.auto()  # it is the server's turn
    COMMAND = enum.auto()
    CONTENT = enum.auto()  # of DATA, up to the dot
    CHUNK = enum.auto()  # of BDAT, so many octets


class Turns:
    """Knows what may be said to the server, and when.

    Attributes:
        is_done: All that there was has been said, and been answered.
    """

    def __init__(self) -> None:
        self._state = _State.REPLY  # first comes the banner
        self._input = bytearray()
        self._said = bytearray()  # a reply, as far as it has come
        self._end = b""  # of lines, once the first has shown it
        self._asks_content = False
        self._left = 0  # octets of a chunk
        self._is_inside = False  # a line of the content has begun
        self._has_ended = False

    @property
    def is_done(self) -> bool:
        """Whether there will be nothing more to say; what lacks its end is never said."""
        return self._has_ended and self._state is not _State.REPLY

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more is to be read."""
        return len(self._input) > PIECE

    def take(self, given: bytes) -> None:
        """Take what the caller says; b"": it will say no more."""
        self._input += given
        self._has_ended = self._has_ended or not given

    def hear(self, said: bytes) -> None:
        """Take what the server says."""
        *lines, rest = (bytes(self._said) + said).split(_LF)
        self._said[:] = rest[:PIECE]
        for line in lines:
            if line[3:4] != b"-" and self._state is _State.REPLY:
                is_content = self._asks_content and line.startswith(b"354")
                self._state = _State.CONTENT if is_content else _State.COMMAND
                self._asks_content = self._is_inside = False

    def release(self) -> bytes:
        """Give what the server may hear now."""
        out = bytearray()
        ways = {
            _State.COMMAND: self._command,
            _State.CONTENT: self._content,
            _State.CHUNK: self._chunk,
        }
        while (way := ways.get(self._state)) is not None and (piece := way()):
            out += piece
        return bytes(out)

    def _command(self) -> bytes:
        line = self._line()
        if not line.endswith(_LF):
            if line:  # no command is so long: nothing more is said
                self._input.clear()
                self._has_ended = True
            return b""
        if not self._end:
            self._end = _CRLF if line.endswith(_CRLF) else _LF
        if self._end == _LF:
            line = line.removesuffix(_LF).removesuffix(b"\r") + _CRLF
        words = line.split()
        verb = words[0].upper() if words else b""
        if verb == b"BDAT" and len(words) > 1 and words[1].isdigit() and len(words[1]) < 20:
            self._left = int(words[1])
            self._state = _State.CHUNK if self._left else _State.REPLY
        else:
            self._asks_content = verb == b"DATA"
            self._state = _State.REPLY
        return line

    def _content(self) -> bytes:
        if self._end == _CRLF:
            return self._content_as_it_is()
        line = self._line()
        ends_here = not self._is_inside and line.rstrip(b"\r\n") == b"." and line.endswith(_LF)
        self._is_inside = bool(line) and not line.endswith(_LF)
        if ends_here:
            self._state = _State.REPLY
        return line.removesuffix(_LF).removesuffix(b"\r") + _CRLF if line.endswith(_LF) else line

    def _content_as_it_is(self) -> bytes:
        """Give a line; in it may be line ends that are none."""
        end = self._input.find(_CRLF)
        if end < 0:
            line = self._cut(len(self._input) - 1 if self.is_full else 0)
        else:
            line = self._cut(end + 2)
        if not self._is_inside and line == b".\r\n":
            self._state = _State.REPLY
        self._is_inside = bool(line) and not line.endswith(_CRLF)
        return line

    def _chunk(self) -> bytes:
        piece = self._cut(min(self._left, len(self._input)))
        self._left -= len(piece)
        if not self._left:
            self._state = _State.REPLY
        return piece

    def _line(self) -> bytes:
        """Give the next line with its LF; a long one in parts."""
        end = self._input.find(_LF)
        if end < 0:
            return self._cut(len(self._input) - 1 if self.is_full else 0)
        return self._cut(end + 1)

    def _cut(self, size: int) -> bytes:
        piece = bytes(self._input[:size])
        del self._input[:size]
        return piece


def pass_on(server: socket.socket) -> None:
    """Pass on what standard input and a server say, until the server ends.

    Raises:
        OSError: One of them is gone.
    """
    turns, is_open, is_told = Turns(), True, False
    while True:
        inputs = [server.fileno(), 0] if is_open and not turns.is_full else [server.fileno()]
        ready, _, _ = select.select(inputs, [], [])
        if server.fileno() in ready:
            said = server.recv(PIECE)
            if not said:
                return
            put(1, said)
            turns.hear(said)
        if 0 in ready:
            given = os.read(0, PIECE)
            is_open = bool(given)
            turns.take(given)
        with contextlib.suppress(OSError):  # it has ended: what it has said is still to be read
            if piece := turns.release():
                server.sendall(piece)
            if turns.is_done and not is_told:
                is_told = True
                server.shutdown(socket.SHUT_WR)


def put(fd: int, data: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: That cannot be done.
    """
    while data:
        data = data[os.write(fd, data) :]
