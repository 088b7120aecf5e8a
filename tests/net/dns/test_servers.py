"""Which name servers are asked, and whose word counts."""

import pytest

from elemta.mail.errors import LookupFailed
from elemta.net import DnsSettings
from elemta.net.dns.servers import MAX_SERVERS, Server, find_servers

RESOLV_CONF = """\
# nameserver 192.0.2.1
search example.test
nameserver   127.0.0.53
nameserver not-an-address
nameserver
nameserver 2001:db8::53 trailing
nameserver fe80::1%eth0
options edns0
"""


def test_those_of_the_settings() -> None:
    settings = DnsSettings(nameservers=(("127.0.0.1", 53), ("192.0.2.1", 5353)))
    assert find_servers(settings) == (
        Server("127.0.0.1", 53, is_trusted=True),
        Server("192.0.2.1", 5353, is_trusted=False),
    )


def test_those_of_the_system(tmp_path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(RESOLV_CONF)
    assert find_servers(DnsSettings(), path) == (
        Server("127.0.0.53", 53, is_trusted=True),
        Server("2001:db8::53", 53, is_trusted=False),
        Server("fe80::1%eth0", 53, is_trusted=False),
    )


def test_there_are_not_too_many(tmp_path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n" * 100)
    assert len(find_servers(DnsSettings(), path)) == MAX_SERVERS


@pytest.mark.parametrize("content", [None, "", "search example.test\n", "\xff\xfe"])
def test_there_may_be_none(tmp_path, content: str | None) -> None:
    path = tmp_path / "resolv.conf"
    if content is not None:
        path.write_text(content, "latin-1")
    with pytest.raises(LookupFailed, match="names no name server"):
        find_servers(DnsSettings(), path)


@pytest.mark.parametrize(
    ("host", "trust", "is_trusted"),
    [
        ("127.0.0.1", "loopback", True),
        ("127.255.0.1", "loopback", True),
        ("::1", "loopback", True),
        ("192.0.2.1", "loopback", False),
        ("10.0.0.1", "loopback", False),
        ("2001:db8::1", "loopback", False),
        ("192.0.2.1", "always", True),
        ("127.0.0.1", "never", False),
    ],
)
def test_whose_word_on_dnssec_counts(host: str, trust: str, is_trusted: bool) -> None:
    settings = DnsSettings(nameservers=((host, 53),), trust_ad=trust)
    assert find_servers(settings)[0].is_trusted is is_trusted


def test_how_they_are_shown() -> None:
    assert str(Server("192.0.2.1", 53, is_trusted=False)) == "192.0.2.1:53"
    assert str(Server("2001:db8::1", 53, is_trusted=False)) == "[2001:db8::1]:53"
