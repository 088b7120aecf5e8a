"""The same zones in a real name server, for us and for Mail::SPF."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from servers.knot import run_knot
from servers.process import program

from elemta.mailauth.spf import SpfChecker, SpfSettings
from elemta.net import DnsResolver, DnsSettings, SystemClock

MANY = [" ".join(f"ip4:198.51.100.{n}" for n in range(at, at + 10)) for at in range(0, 60, 10)]
LONG = " ".join(f'"{piece}"' for piece in ["v=spf1", *[f" {each}" for each in MANY], " -all"])
ZONE = f"""
plain   IN TXT "v=spf1 ip4:192.0.2.0/28 a:mail.a.test mx:m.a.test/31" " include:_spf.a.test "
plain2  IN TXT "v=spf1 ip4:192.0.2.0/28 a:mail.a.test mx:m.a.test/31 " "-all exp=why.a.test"
m       IN MX  10 mail
m       IN MX  20 mx6
mail    IN A   192.0.2.100
mx6     IN AAAA 2001:db8::6
_spf    IN TXT "v=spf1 exists:%{{ir}}.%{{v}}.list.a.test ip6:2001:db8:1::/48 ~all"
200.2.0.192.in-addr.list IN A 127.0.0.2
why     IN TXT "%{{i}} may not send for %{{d}}, says %{{l}} of %{{o}}, see http://%{{h}}/%{{S}}"
moved   IN TXT "v=spf1 redirect=plain2.a.test"
nowhere IN TXT "v=spf1 redirect=gone.a.test"
loop    IN TXT "v=spf1 include:loop.a.test -all"
two     IN TXT "v=spf1 -all"
two     IN TXT "v=spf1 +all"
soft    IN TXT "v=spf1 ptr:a.test ~all"
typo    IN TXT "v=spf1 ipv4:192.0.2.1 -all"
void    IN TXT "v=spf1 a:no1.a.test a:no2.a.test a:no3.a.test -all"
local   IN TXT "v=spf1 exists:%{{l1r-}}.%{{lr-}}.u.a.test -all"
ann.1.ann.u IN A 127.0.0.2
alias   IN CNAME plain2
long    IN TXT {LONG}
refused IN TXT "v=spf1 include:elsewhere.invalid -all"
many    IN TXT "v=spf1{" a:mail.a.test" * 11} +all"
macro   IN TXT "v=spf1 exists:%{{d2r}}.%{{c}} -all"
case    IN TXT "V=SPF1 A:MAIL.A.TEST ?ALL"
"""
REVERSE = "100 IN PTR mail.a.test.\n"
FOUR, SIX = "192.0.2.100", "2001:db8::6"

CASES = [
    ("plain", FOUR, "pass"), ("plain", SIX, "pass"), ("plain", "192.0.2.200", "pass"),
    ("plain", "192.0.2.201", "neutral"), ("plain", "2001:db8:1::9", "permerror"),
    ("plain2", "192.0.2.15", "pass"), ("plain2", "192.0.2.16", "fail"),
    ("plain2", "2001:db8::7", "fail"), ("plain2", "2001:db8:1::9", "fail"),
    ("moved", "192.0.2.101", "pass"), ("moved", "192.0.2.102", "fail"),
    ("nowhere", FOUR, "permerror"),
    ("loop", FOUR, "permerror"), ("two", FOUR, "permerror"), ("soft", FOUR, "pass"),
    ("soft", SIX, "softfail"), ("typo", FOUR, "permerror"), ("void", FOUR, "permerror"),
    ("local", FOUR, "pass"), ("alias", FOUR, "pass"), ("alias", "192.0.2.102", "fail"),
    ("long", "198.51.100.59", "pass"), ("long", FOUR, "fail"), ("refused", FOUR, "temperror"),
    ("many", SIX, "permerror"), ("macro", FOUR, "permerror"), ("case", FOUR, "pass"),
    ("case", SIX, "neutral"), ("gone", FOUR, "none"),
]  # fmt: skip


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    zones = {"a.test": ZONE, "2.0.192.in-addr.arpa": REVERSE, "0.1.0.0.2.ip6.arpa": ""}
    with run_knot(tmp_path_factory.mktemp("spf"), zones) as address:
        yield address


def ask_mail_spf(nameserver: tuple[str, int], ip: str, sender: str) -> tuple[str, str]:
    """Its verdict, and the explanation of a fail."""
    path = program("spfquery.mail-spf-perl", "spf-tools-perl")
    host, port = nameserver
    options = {"identity": sender, "ip-address": ip, "helo-identity": "mx.client.test"}
    options |= {"hostname": "here.test", "default-explanation": ""}
    done = subprocess.run(
        [path, *[f"--{name}={value}" for name, value in options.items()]],
        env=os.environ | {"RES_NAMESERVERS": host, "RES_OPTIONS": f"port:{port}"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    verdict, said, *_ = [*done.stdout.split("\n"), "", ""]
    return verdict, said if verdict == "fail" else ""


@pytest.mark.parametrize(("name", "ip", "status"), CASES)
async def test_both_come_to_the_same(nameserver: tuple[str, int], name: str, ip: str, status: str):
    sender = f"ann-1@{name}.a.test"
    theirs = ask_mail_spf(nameserver, ip, sender)
    assert theirs[0] == status
    resolver = DnsResolver(DnsSettings(nameservers=(nameserver,), timeout=20.0), SystemClock())
    checker = SpfChecker(resolver, SpfSettings(hostname="here.test"))
    ours = await checker.check(ip, f"{name}.a.test", sender, "mx.client.test", now=0.0)
    # the test suite has the nibbles of an address in capitals, Mail::SPF has not
    assert (ours.status, ours.explanation.lower()) == (theirs[0], theirs[1].lower())
