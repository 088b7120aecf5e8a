"""OpenDKIM as a milter that signs, and what a mail server says to it."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from servers.process import free_port, listens, program, start

_CONFIG = """\
Mode s
Syslog no
Socket inet:{port}@127.0.0.1
Domain {domain}
Selector {selector}
KeyFile {key}
SignatureAlgorithm {algorithm}
Canonicalization {form}
OversignHeaders From
RequireSafeKeys no
"""
_VERSION, _ACTIONS, _CONTINUE, _INSERT, _ADD = 6, 0x1FF, b"c", b"i", b"h"


@contextlib.contextmanager
def run_opendkim(
    folder: Path, domain: str, selector: str, pem: bytes, algorithm: str, form: str
) -> Iterator[Callable[[bytes], bytes]]:
    """Run it; gives a function that signs a message."""
    opendkim = program("opendkim", "opendkim")
    port = free_port()
    folder.mkdir()
    key, config = folder / "key", folder / "opendkim.conf"
    key.write_bytes(pem)
    text = _CONFIG.format(
        port=port, domain=domain, selector=selector, key=key, algorithm=algorithm, form=form
    )
    config.write_text(text)
    argv = [opendkim, "-f", "-x", config]
    with start(argv, ready=listens(port), log=folder / "log") as process:
        try:
            yield lambda raw: _sign(port, raw)
        finally:
            process.kill()  # it takes five seconds to stop


def _sign(port: int, raw: bytes) -> bytes:
    """Give the message with the fields before it that the milter wants there."""
    section, _, body = raw.partition(b"\r\n\r\n")
    added = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        stream = connection.makefile("rwb")
        _say(stream, b"O", struct.pack("!III", _VERSION, _ACTIONS, 0))
        _say(stream, b"C", b"localhost\0" + b"4" + struct.pack("!H", 25) + b"127.0.0.1\0")
        _say(stream, b"H", b"localhost\0")
        _say(stream, b"M", b"<ann@example.test>\0")
        _say(stream, b"R", b"<bob@example.test>\0")
        for field in section.replace(b"\r\n ", b"\n ").replace(b"\r\n\t", b"\n\t").split(b"\r\n"):
            name, _, value = field.partition(b":")
            _say(stream, b"L", name + b"\0" + value.removeprefix(b" ") + b"\0")
        _say(stream, b"N", b"")
        if body:
            _say(stream, b"B", body)
        for answer, data in _end(stream):
            if answer in {_INSERT, _ADD}:
                name, value, _ = data[4 * (answer == _INSERT) :].split(b"\0")
                added.append(name + b": " + value.replace(b"\n", b"\r\n") + b"\r\n")
    assert added
    return b"".join(added) + raw


def _say(stream, command: bytes, data: bytes) -> None:
    stream.write(struct.pack("!I", len(data) + 1) + command + data)
    stream.flush()
    answer, _ = _read(stream)
    assert answer in {b"O", _CONTINUE}, answer


def _end(stream) -> Iterator[tuple[bytes, bytes]]:
    """What it asks for at the end of the message."""
    stream.write(struct.pack("!I", 1) + b"E")
    stream.flush()
    while (answer := _read(stream))[0] not in {_CONTINUE, b"a"}:
        assert answer[0] not in {b"r", b"t", b"y"}, answer
        yield answer


def _read(stream) -> tuple[bytes, bytes]:
    (size,) = struct.unpack("!I", stream.read(4))
    octets = stream.read(size)
    return octets[:1], octets[1:]
