"""Notifications are read by the programs that exist for it, and nothing breaks out of them."""

import email
import email.policy
from dataclasses import replace

import pytest
from flufl.bounce import all_failures
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.address import Address, parse_address
from elemta.mail.dsn import (
    LINE_LIMIT,
    RETURNED_LIMIT,
    Action,
    RecipientStatus,
    Report,
    build_notification,
    cut_headers,
    find_status,
)
from elemta.mail.ids import format_queue_id

HEADERS = (
    b"Received: from a by b; Fri, 21 Nov 2025 02:00:00 +0000\r\n"
    b"From: Ann <ann@example.test>\r\nTo: bob@example.org\r\nSubject: hello\r\n"
    b"Message-ID: <1@example.test>\r\n\r\n"
)
NOBODY = RecipientStatus(
    parse_address("bob@example.org"),
    "5.1.1",
    "550 5.1.1 No such user here",
    "mx.example.org",
    1_763_690_500.0,
)
FAILURE = Report(
    action=Action.FAILED,
    hostname="mail.example.test",
    to=parse_address("ann@example.test"),
    queue_id=format_queue_id(123456789),
    arrived_at=1_763_690_000.0,
    message_id="<1@example.test>",
    headers=HEADERS,
    recipients=(NOBODY,),
    notification_id="0000000000ABC",
    made_at=1_763_690_600.9,
    boundary="b_1763690600.3fa9",
)
DELAY = replace(
    FAILURE,
    action=Action.DELAYED,
    retry_until=1_764_122_000.0,
    recipients=(replace(NOBODY, status="4.4.1", reply="451 4.4.1 No answer", remote=""),),
)


def check_wire(data: bytes) -> None:
    assert data.count(b"\r\n") == data.count(b"\r") == data.count(b"\n")
    assert b"\0" not in data
    assert max(map(len, data.split(b"\r\n"))) <= LINE_LIMIT


def parse(report: Report) -> email.message.EmailMessage:
    data = build_notification(report).data
    check_wire(data)
    return email.message_from_bytes(data, policy=email.policy.SMTP)


def blocks(message) -> list:
    _human, status, _returned = message.get_payload()
    return status.get_payload()


def flufl(report: Report) -> tuple[set[bytes], set[bytes]]:
    delayed, failed = all_failures(email.message_from_bytes(build_notification(report).data))
    return set(delayed), set(failed)


def test_a_failure_as_rfc_3464_has_it():
    message = parse(FAILURE)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.get_payload()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert {name: message[name] for name in ("Date", "From", "To", "Message-ID")} == {
        "Date": "Fri, 21 Nov 2025 02:03:20 +0000",
        "From": "Mail Delivery System <MAILER-DAEMON@mail.example.test>",
        "To": "ann@example.test",
        "Message-ID": "<0000000000ABC@mail.example.test>",
    }
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == message["References"] == "<1@example.test>"
    about, bob = blocks(message)
    assert list(about.items()) == [
        ("Reporting-MTA", "dns; mail.example.test"),
        ("X-Elemta-Queue-ID", str(FAILURE.queue_id)),
        ("Arrival-Date", "Fri, 21 Nov 2025 01:53:20 +0000"),
    ]
    assert list(bob.items()) == [
        ("Final-Recipient", "rfc822; bob@example.org"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.example.org"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user here"),
        ("Last-Attempt-Date", "Fri, 21 Nov 2025 02:01:40 +0000"),
    ]


def test_people_are_told_who_said_what():
    human = parse(FAILURE).get_payload()[0].get_content()
    assert "<bob@example.org>: host mx.example.org said: 550 5.1.1 No such user here" in human


def test_a_delay_says_until_when():
    message = parse(DELAY)
    assert message["Subject"].startswith("Delayed mail")
    (bob,) = blocks(message)[1:]
    assert bob["Action"] == "delayed"
    assert bob["Will-Retry-Until"] == "Wed, 26 Nov 2025 01:53:20 +0000"
    assert bob["Remote-MTA"] is None
    assert bob["Diagnostic-Code"] == "x-elemta; 451 4.4.1 No answer"
    assert flufl(DELAY) == ({b"bob@example.org"}, set())


def test_the_header_section_comes_back_as_it_was():
    returned = parse(FAILURE).get_payload()[2]
    assert returned.get_payload(decode=True) == HEADERS[:-2]


def test_returned_headers_that_mail_may_not_have_are_encoded():
    odd = b"Subject: caf\xe9\r\nX-Long: " + b"y" * 3000 + b"\r\nX: a\rb\nc\0d=\r\nY: end \r\n"
    notification = build_notification(replace(FAILURE, headers=odd + b"\r\n"))
    check_wire(notification.data)
    assert notification.data.isascii()
    assert not notification.has_8bit
    returned = email.message_from_bytes(notification.data).get_payload()[2]
    assert returned.get_payload(decode=True) == odd


def test_a_huge_header_section_is_cut_between_lines():
    line = b"X-Filler: 0123456789\r\n"
    cut = cut_headers(line * 10_000, RETURNED_LIMIT)
    assert cut.endswith(line)
    assert RETURNED_LIMIT - len(line) < len(cut) <= RETURNED_LIMIT
    assert cut_headers(b"x" * 100_000, RETURNED_LIMIT) == b"x" * RETURNED_LIMIT
    assert cut_headers(b"\r\nbody", 100) == b""
    assert cut_headers(b"A: b\r\n\r\nbody", 100) == b"A: b\r\n"
    assert cut_headers(b"A: b", 100) == b"A: b"


WIDE = replace(
    FAILURE,
    to=parse_address("jörg@example.test"),
    headers="From: jörg@example.test\r\nSubject: grüß dich\r\n\r\n".encode(),
    recipients=(
        replace(NOBODY, address=parse_address("用户@example.org"), reply="550 5.1.1 nicht für uns"),
        NOBODY,
    ),
)


def test_addresses_beyond_ascii_take_the_forms_of_rfc_6533():
    notification = build_notification(WIDE)
    check_wire(notification.data)
    assert notification.needs_smtputf8
    assert notification.has_8bit
    message = email.message_from_bytes(notification.data, policy=email.policy.SMTPUTF8)
    _human, status, returned = message.get_payload()
    assert status.get_content_type() == "message/global-delivery-status"
    assert returned.get_content_type() == "message/global-headers"
    assert "To: jörg@example.test\r\n".encode() in notification.data
    assert "Final-Recipient: utf-8; 用户@example.org\r\n".encode() in notification.data
    assert b"Final-Recipient: rfc822; bob@example.org\r\n" in notification.data
    assert "Diagnostic-Code: smtp; 550 5.1.1 nicht für uns\r\n".encode() in notification.data
    assert "Subject: grüß dich\r\n".encode() in notification.data
    assert flufl(WIDE) == (set(), {b"bob@example.org", "用户@example.org".encode()})


def test_returned_headers_that_are_no_utf8_are_encoded_even_then():
    notification = build_notification(replace(WIDE, headers=b"Subject: caf\xe9\r\n\r\n"))
    returned = email.message_from_bytes(notification.data).get_payload()[2]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_payload(decode=True) == b"Subject: caf\xe9\r\n"


def test_plain_addresses_stay_plain_whatever_else_is_not():
    report = replace(
        FAILURE,
        headers="Subject: grüß dich\r\n\r\n".encode(),
        message_id="<jörg@example.test>",
        recipients=(replace(NOBODY, reply="550 5.1.1 für uns nicht"),),
    )
    notification = build_notification(report)
    assert notification.data.isascii()
    assert not notification.needs_smtputf8
    message = parse(report)
    assert message["References"] is None
    assert blocks(message)[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 f?r uns nicht"


@pytest.mark.parametrize(
    "message_id",
    [
        "",
        "<>",
        "no-brackets@example.test",
        "<a b@example.test>",
        "<a@example.test> <b@example.test>",
        "<a@example.test>\r\nBcc: x@example.test",
        "<a\x00@example.test>",
        "<" + "a" * 600 + ">",
    ],
)
def test_what_is_no_message_id_is_not_repeated(message_id):
    message = parse(replace(FAILURE, message_id=message_id))
    assert message["In-Reply-To"] is None
    assert message["References"] is None
    assert message["Bcc"] is None


ADDRESSES = [
    "bob@example.org",
    "MixedCase+tag@example.org",
    "o'brien@sub.example.org",
    "!#$%&*/?^_`{|}~@example.org",
    "postmaster@[192.0.2.1]",
    "x@[IPv6:2001:db8::1]",
    "a" * 64 + "@" + "b" * 60 + ".example.org",
    "bob@bücher.example",
    "a/b@example.org",
]
REPLIES = [
    "550 5.1.1 No such user",
    "554 5.7.1 <bob@example.org>: Recipient address rejected: go; away",
    "552 5.2.2 Mailbox full",
    "421 4.4.7 Delivery time expired",
    "550",
    "",
    "550 5.7.1 " + "long words " * 60,
    "550 5.7.1 " + "x" * 600,
    "550 5.1.1 a\r\nAction: delivered\r\n\r\nFinal-Recipient: rfc822; evil@example.com",
    "550 \x1b]0;title\x07 \x85 \u2028 \u202e done",
    "550 --b_1763690600.3fa9--",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("reply", REPLIES)
def test_every_failure_is_recognised_by_flufl_bounce(address, reply):
    status = replace(NOBODY, address=parse_address(address), reply=reply, status=find_status(reply))
    report = replace(FAILURE, recipients=(status,))
    assert flufl(report) == (set(), {str(status.address).encode()})
    assert len(blocks(parse(report))) == 2


def test_many_recipients_are_all_recognised():
    addresses = [f"user{number}@example.org" for number in range(250)]
    report = replace(
        FAILURE, recipients=[replace(NOBODY, address=parse_address(a)) for a in addresses]
    )
    assert flufl(report) == (set(), {a.encode() for a in addresses})


@pytest.mark.parametrize("local", ["a b", 'quo"te', "back\\slash", "semi;colon", "a@b", " "])
def test_quoted_local_parts_stay_one_address(local):
    address = Address(local, "example.org")
    report = replace(FAILURE, to=address, recipients=(replace(NOBODY, address=address),))
    message = parse(report)
    assert blocks(message)[1]["Final-Recipient"] == f"rfc822; {address}"
    assert [str(a.addr_spec) for a in message["To"].addresses] == [str(address)]


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("/run/dovecot/lmtp", "x-unix; /run/dovecot/lmtp"),
        ("192.0.2.1", "dns; [192.0.2.1]"),
        ("2001:db8::1", "dns; [IPv6:2001:db8::1]"),
    ],
)
def test_a_host_without_a_name(remote, name):
    report = replace(FAILURE, recipients=(replace(NOBODY, remote=remote),))
    assert blocks(parse(report))[1]["Remote-MTA"] == name


def test_the_boundary_is_in_no_part():
    report = replace(FAILURE, headers=b"X: --" + FAILURE.boundary.encode() + b"--\r\n\r\n")
    message = parse(report)
    assert message.get_boundary() == FAILURE.boundary + "="
    assert len(message.get_payload()) == 3


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("550 5.1.1 No such user", "5.1.1"),
        ("450 4.2.0 Greylisted", "4.2.0"),
        ("550 No such user", "5.0.0"),
        ("450 Busy", "4.0.0"),
        ("550 9.1.1 Odd", "5.0.0"),
        ("550 5.1.1000 Odd", "5.0.0"),
        ("550 5.1.٣ Odd", "5.0.0"),
        ("550 5.1 Odd", "5.0.0"),
        ("550", "5.0.0"),
        ("", "4.0.0"),
    ],
)
def test_status_codes_are_found_in_replies(reply, status):
    assert find_status(reply) == status


BROKEN_LINES = st.lists(st.sampled_from([b"\r\n", b"\r", b"a: b", b"\0"])).map(b"".join)


@given(
    reply=st.text(max_size=700),
    remote=st.text(max_size=80),
    local=st.text(max_size=40),
    headers=st.binary(max_size=400) | BROKEN_LINES,
    message_id=st.text(max_size=40),
    action=st.sampled_from(Action),
)
def test_nothing_breaks_out(reply, remote, local, headers, message_id, action):
    address = Address(local, "example.org")
    status = RecipientStatus(address, find_status(reply), reply, remote, 1.0)
    report = replace(
        FAILURE,
        action=action,
        to=address,
        headers=headers,
        message_id=message_id,
        recipients=(status, NOBODY),
    )
    notification = build_notification(report)
    check_wire(notification.data)
    assert notification.data.find(b"\r\n\r\n") + 4 == notification.header_size
    message = email.message_from_bytes(notification.data)
    assert len(message.get_payload()) == 3
    lines = notification.data.split(b"\r\n")
    for name in (b"Final-Recipient: ", b"Action: ", b"Status: ", b"Diagnostic-Code: "):
        assert sum(line.startswith(name) for line in lines) == 2
    names = [name for name, _ in message.items()]
    assert len(names) == len(set(names))
