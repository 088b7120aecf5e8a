"""Headers of the PROXY protocol: read exactly, however they are cut, or refused."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.net.proxy import MAX_V1, MAX_V2, ProxyError, ProxyHeader, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = ip_address("192.0.2.7").packed + ip_address("192.0.2.25").packed + struct.pack("!HH", 4711, 25)
V6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::25").packed + b"\x12\x67\x00\x19"


def v2(family: int = 0x11, body: bytes = V4, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            b"PROXY TCP4 192.0.2.7 192.0.2.25 4711 25\r\n",
            ProxyHeader("192.0.2.7", "192.0.2.25", 4711, 25),
        ),
        (
            b"PROXY TCP6 2001:DB8::7 2001:db8::25 4711 25\r\n",
            ProxyHeader("2001:db8::7", "2001:db8::25", 4711, 25),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.25 1 2\r\n",
            ProxyHeader("192.0.2.7", "192.0.2.25", 1, 2),
        ),
        (b"PROXY UNKNOWN\r\n", ProxyHeader()),
        (b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", ProxyHeader()),
        (v2(), ProxyHeader("192.0.2.7", "192.0.2.25", 4711, 25)),
        (v2(0x21, V6), ProxyHeader("2001:db8::7", "2001:db8::25", 4711, 25)),
        (
            v2(body=V4 + b"\x02\x00\x05mx.ex" + b"\x05\x00\x00"),
            ProxyHeader("192.0.2.7", "192.0.2.25", 4711, 25, ((2, b"mx.ex"), (5, b""))),
        ),
        (v2(0x00, b""), ProxyHeader()),
        (v2(0x31, bytes(216) + b"\x05\x00\x01x"), ProxyHeader(extras=((5, b"x"),))),
        (v2(0x11, V4, 0x20), ProxyHeader()),
        (v2(0x00, b"whatever", 0x20), ProxyHeader()),
    ],
)
def test_a_header_however_it_is_cut(header, found):
    for size in range(len(header)):
        assert read_header(header[:size]) is None
    assert read_header(header) == (found, len(header))
    assert read_header(header + b"EHLO there\r\n") == (found, len(header))


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO there\r\n",
        b"\r\n\r\nQUIT",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4711\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4711 25 1\r\n",
        b"PROXY TCP4  192.0.2.7 192.0.2.25 4711 25\r\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.25 4711 25\r\n",
        b"PROXY TCP6 192.0.2.7 192.0.2.25 4711 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 +1 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 01 25\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.25 \u0661 25\r\n".encode(),
        b"PROXY SCTP 192.0.2.7 192.0.2.25 4711 25\r\n",
        b"PROXY " + b"x" * MAX_V1,
        v2(command=0x11),
        v2(command=0x22),
        v2(0x12),
        v2(0x41),
        v2(0x21),
        v2(0x31, bytes(215)),
        v2(body=V4[:-1]),
        v2(body=V4 + b"\x02"),
        v2(body=V4 + b"\x02\x00\x05mx"),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, MAX_V2 + 1),
    ],
)
def test_what_is_none(data):
    with pytest.raises(ProxyError):
        read_header(data)


@given(
    st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: v2()[:16] + rest))
)
def test_nothing_else_is_raised(data):
    try:
        found = read_header(data)
    except ProxyError:
        return
    assert found is None or found[1] <= len(data)
