"""Makes messages with attachments."""

import base64


def attached(data: bytes, name: str = "", type_: str = "application/octet-stream") -> bytes:
    """A message with a text and one attachment; the name goes in as it is."""
    given = f"Content-Disposition: attachment; {name}\r\n".encode() if name else b""
    return (
        b"From: a@example.org\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=frontier\r\n\r\n"
        b"--frontier\r\n\r\nSee the attachment.\r\n"
        b"--frontier\r\nContent-Type: " + type_.encode() + b"\r\n"
        b"Content-Transfer-Encoding: base64\r\n" + given + b"\r\n"
        + base64.encodebytes(data).replace(b"\n", b"\r\n") + b"--frontier--\r\n"
    )  # fmt: skip
