"""Whatever stands where an address or a parameter should: it is read back, or refused."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.mail import AddressError, parse_address, parse_path
from elemta.mail.address import DomainError, parse_domain
from elemta.mail.message import Requests
from elemta.server.offers import make_requests
from elemta.smtp import Limits, Offer
from elemta.smtp.commands import (
    parse_attributes,
    parse_auth,
    parse_chunk,
    parse_hello,
    parse_mail,
    parse_rcpt,
)
from elemta.smtp.events import Auth, Fault, Hello, Mail, Rcpt, XClient
from elemta.smtp.requests import mail_parameters, rcpt_parameters

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "200"))
crumbs = st.one_of(
    st.sampled_from('<>@.,:"\\ aA1-_[]()=\0\r\n\t\x7f\x85\u2028\u202e\u200d\u212a\u3002ü漢'),
    st.sampled_from(
        ["IPv6:", "::1", "127.0.0.1", "postmaster", "example.test", "xn--", "xn--bcher-kva"]
    ),
    st.sampled_from(["SIZE=1", "BODY=8BITMIME", "SMTPUTF8", "LAST", "FROM:", "TO:"]),
    st.just("a" * 70),
)
texts = st.lists(crumbs, max_size=14).map("".join) | st.text(max_size=30)
raws = st.one_of(
    texts.map(str.encode),
    texts.map(lambda text: f"<{text}>".encode()),
    texts.map(lambda text: f"<{text}@example.test>".encode()),
    texts.map(lambda text: f"<a@{text}>".encode()),
    st.binary(max_size=30),
)


@settings(max_examples=EXAMPLES)
@given(raws, st.booleans())
def test_paths(raw, wide):
    try:
        address, rest = parse_path(raw, allow_utf8=wide)
    except AddressError:
        return
    assert raw.endswith(rest)
    assert rest[:1] in (b"", b" ")
    if address is not None:
        assert not {"\r", "\n", "\0"} & set(str(address))
        assert parse_path(f"<{address}>".encode(), allow_utf8=True) == (address, b"")
        assert parse_address(str(address)) == address
        assert wide or not address.needs_smtputf8
        assert address.domain.isascii()


@settings(max_examples=EXAMPLES)
@given(texts)
def test_domains(text):
    try:
        domain = parse_domain(text)
    except DomainError:
        return
    assert parse_domain(domain) == domain == domain.lower() or domain.startswith("[IPv6:")
    assert parse_address(f"a@{domain}").domain == domain


PLAIN, WIDE = (
    Offer(
        smtputf8=wide,
        binarymime=True,
        dsn=True,
        mechanisms=("PLAIN",),
        require_tls=True,
        deliver_by=60,
        future_release=86400,
        mt_priority=True,
    )
    for wide in (False, True)
)
KEYWORDS = [
    *("RET", "ENVID", "AUTH", "BY", "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY", "REQUIRETLS"),
    *("SIZE", "BODY", "NOTIFY", "ORCPT"),
]
VALUES = [
    *("FULL", "HDRS", "1", "60", "-9", "+5", "1_0", ";R", ";NT", "999999999", "BINARYMIME", "="),
    *("2026-12-02T03:04:05Z", "9999-12-31T23:59:59Z", "+0D+0A", "+2B", "rfc822;", "<>", "a@b.test"),
    *("NEVER", "SUCCESS", ",", "\u0665", "\uff15"),
]
pieces = st.sampled_from(VALUES) | crumbs
values = st.lists(pieces, max_size=4).map("".join)
words = st.tuples(st.sampled_from(KEYWORDS), st.just("=") | st.just(""), values).map("".join)
parameters = st.lists(words, max_size=4).map(" ".join).map(str.encode)
NOW = 1_795_000_000.0


@settings(max_examples=EXAMPLES)
@given(raws, st.sampled_from([PLAIN, WIDE]))
def test_commands(raw, offer):
    limits = Limits()
    assert isinstance(parse_mail(b"FROM:" + raw, limits, offer), Mail | Fault)
    assert isinstance(parse_mail(raw, limits, offer), Mail | Fault)
    assert isinstance(parse_rcpt(b"TO:" + raw, offer, smtputf8=offer.smtputf8), Rcpt | Fault)
    assert isinstance(parse_hello(raw, "EHLO"), Hello | Fault)
    assert isinstance(parse_auth(b"PLAIN " + raw, offer), Auth | Fault)
    assert isinstance(parse_attributes(raw, XClient), XClient | Fault)
    chunk = parse_chunk(raw)
    assert chunk is None or chunk[0] >= 0


@settings(max_examples=EXAMPLES * 3)
@given(parameters)
def test_parameters(raw):
    """What is taken can be said to the next hop, and nothing slips into its commands."""
    offers = {"DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS"}
    event = parse_mail(b"FROM:<a@b.test> " + raw, Limits(), WIDE)
    if isinstance(event, Mail) and event.extras is not None:
        requests = make_requests(event.extras, NOW, 86400.0, is_privileged=True)
        if isinstance(requests, Requests):
            assert requests.not_before <= NOW + 86401.0
            said = mail_parameters(requests, offers, NOW)
            again = parse_mail(b"FROM:<a@b.test>" + said.encode("ascii"), Limits(), WIDE)
            assert isinstance(again, Mail)
            assert len(said) < 300
    rcpt = parse_rcpt(b"TO:<a@b.test> " + raw, WIDE, smtputf8=False)
    if isinstance(rcpt, Rcpt):
        said = rcpt_parameters(Requests(dsn={0: (rcpt.notify, rcpt.original)}), 0, offers)
        assert parse_rcpt(f"TO:<a@b.test>{said}".encode("ascii"), WIDE, smtputf8=False) == rcpt
