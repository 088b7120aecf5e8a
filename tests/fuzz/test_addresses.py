"""Whatever stands where an address should: an address that is read back, or an AddressError."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.mail import AddressError, parse_address, parse_path
from elemta.mail.address import DomainError, parse_domain
from elemta.smtp import Limits
from elemta.smtp.commands import parse_chunk, parse_hello, parse_mail, parse_rcpt
from elemta.smtp.events import Fault, Hello, Mail, Rcpt

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


@settings(max_examples=EXAMPLES)
@given(raws, st.booleans())
def test_commands(raw, wide):
    limits = Limits()
    assert isinstance(parse_mail(b"FROM:" + raw, limits, smtputf8=wide), Mail | Fault)
    assert isinstance(parse_mail(raw, limits, smtputf8=wide), Mail | Fault)
    assert isinstance(parse_rcpt(b"TO:" + raw, smtputf8=wide), Rcpt | Fault)
    assert isinstance(parse_hello(raw, "EHLO"), Hello | Fault)
    chunk = parse_chunk(raw)
    assert chunk is None or chunk[0] >= 0
