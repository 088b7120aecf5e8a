"""HTTP/1.1 to a worker of Rspamd, on a connection that is used once (h11 over a `Stream`)."""

from collections.abc import Awaitable, Callable, Sequence

import h11

from elemta.mail.reply import clean_text
from elemta.net import Stream
from elemta.plugins.builtin._elsewhere import Trouble

MAX_ANSWER = 4 * 1024 * 1024  # octets: thousands of symbols
_MAX_HEADER = 64 * 1024  # octets

Fields = Sequence[tuple[str, str]]
Send = Callable[[Callable[[bytes], None]], Awaitable[bool]]


async def request(
    stream: Stream, method: str, path: str, fields: Fields, send: Send | None = None
) -> bytes:
    """Ask, and give the body of the answer.

    Args:
        stream: The connection.
        method: "GET" or "POST".
        path: What is asked for.
        fields: Of the header; with a body there must be its Content-Length.
        send: Is given what writes a piece of the body, and writes it; False where that was not all.

    Raises:
        Trouble: The answer is none, or no success.
        OSError: The connection broke.
    """
    talk = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEADER)
    try:
        head = h11.Request(method=method, target=path, headers=_encode(fields))
        _write(stream, talk, head)
        if send is None or await send(lambda chunk: _write(stream, talk, h11.Data(chunk))):
            _write(stream, talk, h11.EndOfMessage())
        return await _read(stream, talk)
    except h11.ProtocolError as error:
        raise Trouble(f"that is not HTTP: {error}") from error


def _encode(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Make fields of values that strangers have chosen."""
    found = [(name.encode(), clean_text(value).strip().encode()) for name, value in fields]
    return [*found, (b"Connection", b"close")]


def _write(stream: Stream, talk: h11.Connection, event: h11.Event) -> None:
    data = talk.send(event)
    if data:
        stream.write(data)


async def _read(stream: Stream, talk: h11.Connection) -> bytes:
    status, pieces, size = 0, list[bytes](), 0
    while True:
        event = talk.next_event()
        if event is h11.NEED_DATA:
            talk.receive_data(await stream.read())
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > MAX_ANSWER:
                raise Trouble("its answer is too long")
            pieces.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            body = b"".join(pieces)
            if status != 200:
                text = clean_text(body[:200].decode("utf-8", "replace"))
                raise Trouble(f"it says {status}: {text}")
            return body
        elif not isinstance(event, h11.InformationalResponse):
            raise Trouble("it hung up before it had answered")
