"""All checks of a message's origin together: no message and no DNS makes them fail."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from mailauth.dkim.signed import key

from elemta.mail.errors import LookupFailed
from elemta.plugins.builtin.arc import Arc
from elemta.plugins.builtin.authentication_results import AuthenticationResults
from elemta.plugins.builtin.dkim import Dkim
from elemta.plugins.builtin.dmarc import Dmarc
from elemta.plugins.builtin.iprev import Iprev
from elemta.plugins.builtin.spf import Spf
from elemta.testing import FakeResolver, SmtpServer

KINDS = (Iprev, Spf, Dkim, Arc, Dmarc, AuthenticationResults)
RECORDS = (
    b"v=spf1 include:%{l}.%{d} a mx ptr exists:%{ir}.x.test ip4:127.0.0.0/8 redirect=other.test",
    b"v=spf1 -all exp=%{s}.why.test",
    b"v=DMARC1; p=reject; sp=none; np=quarantine; t=y; psd=y; rua=mailto:x@y.test!9m",
    b"v=DMARC1; p=quarantine; adkim=s; aspf=s",
    b"v=DKIM1; k=rsa; t=s:y; h=sha256; p=",
    key().key.record().encode(),
    b"",
)
FIELDS = (
    b"From: Ann <ann@example.org>",
    b"From: =?utf-8?q?x?= <a@b.test>, c@d.test",
    b"From: \xff\xfe<\x00@",
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.org; s=rsa; h=from:from;"
    b" l=3; t=1; x=2; i=@a.example.org; bh=AAAA; b=AAAA",
    b"DKIM-Signature: v=1; a=ed25519-sha256; d=x.test; s=y; h=from; bh=; b=====",
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=rsa; t=1; b=AAAA",
    b"ARC-Message-Signature: i=1; a=rsa-sha256; c=simple/relaxed; d=example.org; s=rsa; h=from;"
    b" bh=AAAA; b=AAAA",
    b"ARC-Authentication-Results: i=1; example.org; dmarc=pass header.from=example.org",
    b"Authentication-Results: mx.example.test; spf=pass",
    b"Authentication-Results: (((((( ; ;; =",
    b"Subject: hello",
)
pieces = st.one_of(st.sampled_from(FIELDS), st.binary(max_size=60))


def twisted(texts):
    """Texts, and the same with some octets in their midst changed."""
    return st.builds(
        lambda text, at, more: text[:at] + more + text[at + len(more) :],
        st.sampled_from(texts),
        st.integers(0, 80),
        st.binary(max_size=5),
    )


fields = st.lists(st.one_of(pieces, twisted(FIELDS)), max_size=12)
texts = st.lists(st.one_of(st.sampled_from(RECORDS), twisted(RECORDS)), min_size=1, max_size=3)
hosts = st.text("abc.-_*\\ \x00é", max_size=80)


class OddResolver(FakeResolver):
    """Answers any question with what is at hand, and sometimes not at all."""

    def __init__(self, records, names, failing):
        super().__init__({})
        self._records, self._names, self._failing = records, names, failing

    async def query(self, name, rdtype):
        self.questions.append((name, rdtype))
        if len(self.questions) % 7 == self._failing:
            raise LookupFailed("not now")
        if len(self.questions) % 5 == self._failing:
            await asyncio.sleep(0)
        found = {
            "TXT": self._records,
            "MX": [(10, each) for each in self._names],
            "PTR": self._names,
            "A": ["127.0.0.1", "192.0.2.1"],
            "AAAA": ["::1"],
        }
        self.zone = {name: {rdtype: found[rdtype]}}
        return await super().query(name, rdtype)


@given(
    fields,
    st.binary(max_size=200),
    texts,
    st.lists(hosts, max_size=4),
    st.integers(0, 7),
    st.sampled_from(["", "ann@example.org", "a.b+c@x.y.test"]),
)
async def test_every_message_gets_an_answer(head, body, records, names, failing, sender):
    lines = b"\r\n".join(head).replace(b"\0", b"").replace(b"\r", b"").replace(b"\n", b"\r\n")
    rest = body.replace(b"\0", b"").replace(b"\r", b"").replace(b"\n", b"\r\n")
    dns = OddResolver(records, names, failing)
    content = lines + b"\r\n\r\n" + rest + b"\r\n"
    async with SmtpServer(*KINDS, dns=dns) as server, await server.connect("192.0.2.1") as client:
        reply = await client.send_mail(sender, content=content)
    assert server.error == ""
    assert reply[:3] in {"250", "550"}
    assert len(dns.questions) < 400
    for message in server.messages:
        assert message.content.count(b"Authentication-Results: mx.example.test;") >= 1
