"""The Received field: well-formed, whatever the client calls itself."""

import re
from email.utils import parsedate_to_datetime

import pytest

from elemta.mail.address import parse_address
from elemta.mail.ids import QueueId
from elemta.server.trace import received_field, session_part

ID = QueueId("0123456789ABC")


def test_it_names_the_only_recipient_and_the_time():
    part = session_part("client.example", "192.0.2.1", "mx.example.test", "ESMTP")
    field = received_field(part, ID, parse_address("b@example.test"), 1_700_000_000.5).decode()
    assert field.startswith("Received: from client.example ([192.0.2.1])\r\n\tby mx.example.test")
    assert "with ESMTP id 0123456789ABC\r\n\tfor <b@example.test>; " in field
    assert field.endswith("+0000\r\n")
    date = parsedate_to_datetime(field.rpartition("; ")[2].strip())
    assert date.timestamp() == 1_700_000_000


def test_it_names_no_recipient_where_there_are_several():
    field = received_field(session_part("c", "", "h", "LMTP"), ID, None, 0.0)
    assert b" for " not in field
    assert b"(local)" in field


@pytest.mark.parametrize("helo", ["a\r\nX-Evil: 1", "x y; z", "\x1b[31m", "(comment)", "é" * 400])
def test_a_hostile_name_stays_one_word(helo):
    field = received_field(session_part(helo, "::1", "h", "SMTP"), ID, None, 0.0)
    lines = field.split(b"\r\n")
    assert lines[-1] == b""
    assert all(line.startswith(b"\t") for line in lines[1:-1])
    name = lines[0].removeprefix(b"Received: from ").removesuffix(b" ([IPv6:::1])")
    assert re.fullmatch(rb"[A-Za-z0-9.:_\[\]-]{1,255}", name)
