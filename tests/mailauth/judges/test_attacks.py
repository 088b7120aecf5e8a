"""Messages and zones that are made to mislead or to cost much, against all checks together.

Names come from a real server, through the resolver that the server uses. What counts in the end is
that nothing passes for the domain in From, that nothing is asked without end, and how long it
takes.
"""

import base64
import itertools
import socket
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mailauth.dkim.signed import hash_body, sign, sign_with, split
from mailauth.judges.corpus import edit
from mailauth.judges.inbound import Envelope, Verdicts, judge
from mailauth.judges.names import KEYS
from servers.knot import run_knot

from elemta.mailauth import ArcVerdict, AuthStatus
from elemta.mailauth.arc import Sealer, SealSettings
from elemta.mailauth.dkim import SigningKey, SignSettings
from elemta.mailauth.dmarc import AuthorProblem, DmarcSettings, decide, find_author
from elemta.net import Answer, DnsResolver, DnsSettings, SystemClock

VICTIM, ATTACKER = "victim.example", "attacker.example"
KEY = SigningKey(VICTIM, "s", KEYS["ed25519"])
THEIRS = SigningKey(ATTACKER, "s", KEYS["ed25519"])
GOOD_IP, BAD_IP = "192.0.2.1", "203.0.113.66"
HERS = Envelope(GOOD_IP, "mx.victim.example", "ann@victim.example")
EVIL = Envelope(BAD_IP, "mx.attacker.example", "eve@attacker.example")
FORGED = Envelope(BAD_IP, "mx.attacker.example", "ann@victim.example")
PLAIN = (
    b"From: Ann <ann@victim.example>\r\nTo: bob@example.test\r\nSubject: Hello\r\n"
    b"\r\nThe rent is due.\r\n"
)
REJECTED = ("fail", "reject")


def text(value: str | bytes) -> str:
    """A TXT record, in strings."""
    octets = value.encode() if isinstance(value, str) else value
    cut = [octets[at : at + 250].decode() for at in range(0, len(octets), 250)]
    return " ".join(f'"{piece}"' for piece in cut)


def chain(name: str, length: int, end: str) -> str:
    """A name that leads to another one by so many aliases."""
    names = [name, *(f"c{n}.{name}" for n in range(1, length)), end]
    return "".join(f"{a} IN CNAME {b}\n" for a, b in itertools.pairwise(names))


def long_key() -> str:
    public = rsa.RSAPublicNumbers(65_537, (1 << 16_383) + 1001).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "v=DKIM1; p=" + base64.b64encode(octets).decode()


def make_zone() -> str:
    key = text(KEY.key.record())
    lines = [
        'victim IN TXT "v=spf1 ip4:192.0.2.0/28 -all"',
        '_dmarc.victim IN TXT "v=DMARC1; p=reject"',
        f"s._domainkey.victim IN TXT {key}",
        f"weak._domainkey.victim IN TXT {text(KEYS['weak'].record())}",
        f"long._domainkey.victim IN TXT {text(long_key())}",
        f"huge._domainkey.victim IN TXT {text('v=DKIM1; p=' + 'A' * 60_000)}",
        f"big._domainkey.victim IN TXT {text('v=DKIM1; p=' + 'A' * 12_000)}",
        *(f"crowd._domainkey.victim IN TXT {text(f'v=DKIM1; n={n}')}" for n in range(300)),
        'attacker IN TXT "v=spf1 +all"',
        f"s._domainkey.attacker IN TXT {key}",
        f"*.evil._domainkey.attacker IN TXT {key}",
        # SPF that asks without end
        *(f'{name} IN TXT "v=spf1 include:{name}.example -all"' for name in ("loop", "ring1")),
        'twin1 IN TXT "v=spf1 include:twin2.example -all"',
        'twin2 IN TXT "v=spf1 redirect=twin1.example"',
        'tree IN TXT "v=spf1 ' + " ".join(f"include:t{n}.tree.example" for n in range(40)) + '"',
        *(f't{n}.tree IN TXT "v=spf1 a:tree.example mx:tree.example ?all"' for n in range(40)),
        'crowd IN TXT "v=spf1 mx -all"',
        *(f"crowd IN MX {n} h{n}.crowd" for n in range(600)),
        'throng IN TXT "v=spf1 mx -all"',
        *(f"throng IN MX {n} h{n}.throng" for n in range(2500)),  # there is no room for 10,000
        'names IN TXT "v=spf1 exists:%{d}.%{d}.%{d}.%{l}.%{s}.%{h}.names.example -all"',
        f"thick IN TXT {text('v=spf1 ' + 'ip4:198.51.100.1 ' * 400 + '-all')}",
        f"fat IN TXT {text('v=spf1 ' + 'ip4:198.51.100.1 ' * 700 + '-all')}",
        f"fatter IN TXT {text('v=spf1 ' + 'ip4:198.51.100.1 ' * 3600 + '-all')}",
        *(f"many IN TXT {text(f'{n} ' + 'x' * 240)}" for n in range(50)),
        'many IN TXT "v=spf1 -all"',
        # aliases
        chain("short", 5, "victim"),
        chain("endless", 30, "victim"),
        "round IN CNAME about\nabout IN CNAME round",
        chain("s._domainkey.near", 5, "s._domainkey.victim"),
        chain("s._domainkey.far", 30, "s._domainkey.victim"),
        "s._domainkey.round2 IN CNAME s._domainkey.round2b",
        "s._domainkey.round2b IN CNAME s._domainkey.round2",
        chain("_dmarc.near", 5, "_dmarc.victim"),
        chain("_dmarc.far", 30, "_dmarc.victim"),
        "_dmarc.round2 IN CNAME _dmarc.round2",
        # policies
        f"_dmarc.bloated IN TXT {text('v=DMARC1; p=reject; ' + 'x=y; ' * 12_000)}",
        f"_dmarc.large IN TXT {text('v=DMARC1; p=reject; ' + 'x=y; ' * 2_400)}",
        *(f"_dmarc.many IN TXT {text(f'{n} ' + 'x' * 240)}" for n in range(50)),
        '_dmarc.many IN TXT "v=DMARC1; p=reject"',
        # names beyond ASCII
        f"s._domainkey.xn--bcher-kva IN TXT {key}",
        'xn--bcher-kva IN TXT "v=spf1 ip4:192.0.2.0/28 -all"',
        '_dmarc.xn--bcher-kva IN TXT "v=DMARC1; p=reject"',
    ]
    return "\n".join(lines) + "\n"


class Counting:
    """A resolver that tells how often it was asked."""

    def __init__(self, nameserver: tuple[str, int], timeout: float = 20.0):
        settings = DnsSettings(nameservers=(nameserver,), timeout=timeout)
        self._resolver = DnsResolver(settings, SystemClock())
        self.names: list[str] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        self.names.append(name)
        return await self._resolver.query(name, rdtype)


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory):
    with run_knot(tmp_path_factory.mktemp("attacks"), {"example": make_zone()}) as address:
        yield address


@pytest.fixture
def resolver(nameserver) -> Counting:
    return Counting(nameserver)


async def ask(raw: bytes, envelope: Envelope, resolver: Counting, most: int = 40) -> Verdicts:
    """All verdicts, with a second or two of computing and some questions."""
    start = time.process_time()
    verdicts = await judge(raw, envelope, resolver, now=time.time())
    assert time.process_time() - start < 5.0
    assert len(resolver.names) <= most, resolver.names
    return verdicts


def dmarc(verdicts: Verdicts) -> tuple[str, str]:
    return verdicts.dmarc.status, verdicts.dmarc.policy


def signed(plain: bytes = PLAIN, *, key: SigningKey = KEY, oversigned: bool = True) -> bytes:
    settings = SignSettings() if oversigned else SignSettings(oversigned=())
    return sign(plain, key, settings=settings, now=time.time() - 5)


async def test_what_is_right_passes(resolver):
    verdicts = await ask(signed(), HERS, resolver, most=5)
    assert (verdicts.spf.status, verdicts.dkim[0].status) == ("pass", "pass")
    assert dmarc(verdicts) == ("pass", "reject")
    assert dmarc(await ask(PLAIN, FORGED, resolver)) == REJECTED


async def test_what_is_written_below_a_signed_part(resolver):
    tags = f"v=1; a=ed25519-sha256; d={VICTIM}; s=s; h=from:subject; l=18; bh={{bh}}"
    raw = sign_with(tags, PLAIN, KEY)
    assert dmarc(await ask(raw, FORGED, resolver)) == ("pass", "reject")
    verdicts = await ask(edit(raw), FORGED, resolver)
    assert (verdicts.dkim[0].status, verdicts.dkim[0].unsigned > 0) == ("policy", True)
    assert dmarc(verdicts) == REJECTED


@pytest.mark.parametrize("name", [b"From:", b"from :", b"FROM\t:", b"From:\r\n"])
async def test_a_second_author(resolver, name):
    """Neither over what she signed, nor hers over what the attacker signed."""
    hers = b" Ann <ann@victim.example>\r\n"
    other = PLAIN.replace(VICTIM.encode(), ATTACKER.encode())
    for raw, envelope in (
        (name + b" Eve <eve@attacker.example>\r\n" + signed(), EVIL),
        (name + hers + signed(other, key=THEIRS), EVIL),
        (name + hers + signed(other, key=THEIRS, oversigned=False), EVIL),
        (signed(other, key=THEIRS).replace(b"Subject:", name + hers + b"Subject:"), EVIL),
    ):
        verdicts = await ask(raw, envelope, resolver)
        assert verdicts.dkim[0].status != "pass"
        assert dmarc(verdicts) == REJECTED
        assert "From" in verdicts.dmarc.problem or verdicts.dmarc.author_domain == VICTIM


@pytest.mark.parametrize(
    "gap", [b"Cc: all@example.test\r\n", b"Reply-To: eve@attacker.example\r\n", b"Date: x\r\n",
            b"Content-Type: text/html\r\n", b"Subject: Hello\r\n", b"subject : Pay\r\n"]
)  # fmt: skip
async def test_fields_put_where_there_were_none(resolver, gap):
    for raw in (gap + signed(), signed().replace(b"To: bob", gap + b"To: bob")):
        verdicts = await ask(raw, FORGED, resolver)
        assert verdicts.dkim[0].status == "fail"
        assert dmarc(verdicts) == REJECTED
    # so it is oversigning that does it
    on_top = gap + signed(oversigned=False)
    assert dmarc(await ask(on_top, FORGED, resolver)) == ("pass", "reject")


async def test_a_thousand_signatures(resolver):
    """Ten names are asked for, and one that is right counts only among the first ones."""
    right = signed()
    one = signed(key=THEIRS).removesuffix(PLAIN)
    crowd = [one.replace(b"s=s;", f"s=x{n}.evil;".encode()) for n in range(1000)]
    verdicts = await ask(b"".join(crowd) + right, FORGED, resolver, most=20)
    assert len(verdicts.dkim) == 10
    assert dmarc(verdicts) == REJECTED
    late = await ask(b"".join(crowd[:10]) + right, FORGED, resolver, most=40)
    assert dmarc(late) == REJECTED
    verdicts = await ask(b"".join(crowd[:9]) + right + b"", FORGED, resolver, most=60)
    assert dmarc(verdicts) == ("pass", "reject")


@pytest.mark.parametrize(
    ("selector", "status"),
    [
        *[("weak", "policy"), ("long", "permerror"), ("big", "permerror"), ("crowd", "permerror")],
        ("huge", "temperror"),  # the resolver takes no answer of so many octets
    ],
)
async def test_keys_that_are_none(resolver, selector, status):
    key = SigningKey(VICTIM, selector, KEYS["weak"])
    verdicts = await ask(signed(key=key), FORGED, resolver)
    assert verdicts.dkim[0].status == status
    assert dmarc(verdicts) == (("temperror", "reject") if status == "temperror" else REJECTED)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *[("loop", "permerror"), ("ring1", "permerror"), ("twin1", "permerror")],
        *[("tree", "permerror"), ("crowd", "permerror"), ("throng", "temperror")],
        *[("names", "fail"), ("many", "fail"), ("thick", "fail")],
        *[("fat", "permerror"), ("fatter", "temperror")],
        *[("short", "fail"), ("endless", "temperror"), ("round", "temperror")],
    ],
)
async def test_spf_that_asks_without_end(resolver, name, status):
    """The domain of the sender is no help to a message in the name of another one."""
    envelope = Envelope(BAD_IP, "h" * 60 + ".attacker.example", f"{'l' * 60}@{name}.example")
    verdicts = await ask(PLAIN, envelope, resolver, most=30)
    assert verdicts.spf.status == status, verdicts.spf
    assert dmarc(verdicts) == REJECTED


async def test_aliases_of_keys_and_policies(resolver):
    for domain, dkim, status in (
        ("near", "pass", "pass"),
        ("far", "temperror", "temperror"),
        ("round2", "temperror", "temperror"),
    ):
        plain = PLAIN.replace(b"victim", domain.encode())
        key = SigningKey(f"{domain}.example", "s", KEYS["ed25519"])
        verdicts = await ask(signed(plain, key=key), EVIL, resolver)
        assert verdicts.dkim[0].status == dkim
        assert verdicts.dmarc.status == status
    # another one's key is of no use, however it is reached
    verdicts = await ask(PLAIN.replace(b"victim", b"far"), EVIL, resolver)
    assert verdicts.dmarc.status == "temperror"


async def test_policies_that_are_huge_or_hidden_in_a_crowd(resolver):
    for domain, expected in (
        ("large", ("permerror", "none")),
        ("bloated", ("temperror", "none")),
        ("many", REJECTED),
    ):
        raw = PLAIN.replace(b"victim", domain.encode())
        assert dmarc(await ask(raw, EVIL, resolver)) == expected


async def test_names_beyond_ascii(resolver):
    """One domain, however it is written; and none that only looks like another one."""
    plain = PLAIN.replace(b"victim", "bücher".encode())
    key = SigningKey("xn--bcher-kva.example", "s", KEYS["ed25519"])
    for raw in (
        signed(plain, key=key),
        signed(plain.replace("bü".encode(), "BÜ".encode()), key=key),
    ):
        for sender in ("ann@bücher.example", "ann@xn--bcher-kva.example"):
            verdicts = await ask(raw, Envelope(GOOD_IP, "mx.example", sender), resolver)
            assert (verdicts.spf.status, verdicts.dkim[0].status) == ("pass", "pass")
            assert dmarc(verdicts) == ("pass", "reject")
            assert verdicts.dmarc.author_domain == "xn--bcher-kva.example"
    forged = await ask(plain, Envelope(BAD_IP, "mx.example", "ann@bücher.example"), resolver)
    assert dmarc(forged) == REJECTED
    alike = PLAIN.replace(
        b"victim", "v\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}ctim".encode()
    )
    verdicts = await ask(signed(alike), HERS, resolver, most=60)
    assert (verdicts.spf.status, verdicts.dkim[0].status) == ("pass", "pass")
    assert verdicts.dmarc.status == "none"  # these are of another domain, without a policy
    assert verdicts.dmarc.author_domain.startswith("xn--")


async def test_all_of_it_at_once(resolver):
    """The most that one message can make us ask."""
    deep = ".".join(f"l{n}" for n in range(20))
    authors = b", ".join(f"<a@{deep}.{d}.example>".encode() for d in "abcdefgh")
    raw = PLAIN.replace(b"Ann <ann@victim.example>", authors)
    for number in range(100):
        domain = f"{deep}.d{number}.attacker.example"
        raw = signed(raw, key=SigningKey(domain, f"s{number}", KEYS["ed25519"]))
    raw = await seal(raw, "ed25519", 50)
    envelope = Envelope(BAD_IP, "mx.attacker.example", "eve@tree.example")
    verdicts = await ask(raw, envelope, resolver, most=150)
    assert verdicts.spf.status == "permerror"
    assert {each.status for each in verdicts.dkim} == {"permerror"}
    assert (verdicts.arc.status, verdicts.arc.instances) == ("pass", 50)
    assert verdicts.dmarc.status == "permerror"


async def seal(raw: bytes, name: str, times: int) -> bytes:
    """Seals of an attacker, each by another key, who says that all was right."""
    says = "mx.attacker.example; dmarc=pass header.from=victim.example"
    chain = ArcVerdict(AuthStatus.NONE)
    for number in range(1, times + 1):
        key = SigningKey(ATTACKER, f"x{number}.evil", KEYS[name])
        sealer = Sealer(key, SealSettings())
        section, body = split(raw)
        digests, _ = hash_body(body, [sealer.spec])
        raw = sealer.seal(section, digests[sealer.spec], says, chain, time.time() - 9) + raw
        chain = ArcVerdict(AuthStatus.PASS, number)
    return raw


async def test_fifty_seals_of_strangers(resolver):
    """A chain that is right says nothing for the author, unless its sealers are trusted."""
    raw = await seal(PLAIN, "ed25519", 50)
    verdicts = await ask(raw, FORGED, resolver, most=65)
    assert (verdicts.arc.status, verdicts.arc.dmarc_passed) == ("pass", VICTIM)
    assert dmarc(verdicts) == REJECTED
    assert decide(verdicts.dmarc, DmarcSettings(), verdicts.arc).policy == "reject"
    some = DmarcSettings(trusted_sealers=frozenset({VICTIM, "relay.example"}))
    assert decide(verdicts.dmarc, some, verdicts.arc).policy == "reject"
    many = raw.removesuffix(PLAIN) * 20 + PLAIN  # a thousand sets
    verdicts = await ask(many, FORGED, resolver, most=75)
    assert verdicts.arc.status == "fail"
    assert dmarc(verdicts) == REJECTED


@pytest.mark.parametrize(
    "value",
    [
        *("ann@victim.example <eve@attacker.example>", "eve@attacker.example, ann@victim.example"),
        *("<@victim.example:eve@attacker.example>", "eve@attacker.example\0@victim.example"),
        *("all: ann@victim.example;, eve@attacker.example", "ann@victim.example\r eve@a.example"),
        *("eve@attacker.example@victim.example", "<eve@victim.example@attacker.example>"),
        *('"ann@victim.example\r\n <eve@attacker.example>', "ann@victim.example (eve@a.example)"),
        *("ann @ victim . example <eve@attacker.example>", 'ann@"victim.example", eve@a.example'),
    ],
)
async def test_authors_that_could_be_taken_for_her(resolver, value):
    """What the attacker signs is right, and says nothing for her."""
    plain = f"From: {value}\r\nSubject: x\r\n\r\nHello\r\n".encode()
    verdicts = await ask(signed(plain, key=THEIRS), EVIL, resolver)
    assert (verdicts.spf.status, verdicts.dkim[0].status) == ("pass", "pass")
    assert dmarc(verdicts) == REJECTED


async def test_an_author_behind_many_others(resolver):
    """So many are not judged, but there is no doubt that something is wrong."""
    others = "".join(f"a@{name}.attacker.example, " for name in "abcd")
    plain = f"From: {others}ann@victim.example\r\n\r\nHello\r\n".encode()
    verdicts = await ask(signed(plain, key=THEIRS), EVIL, resolver)
    assert verdicts.dmarc.status == "permerror"
    assert find_author(plain).problem is AuthorProblem.TOO_MANY


async def test_a_name_server_that_keeps_silent():
    """Each name is waited for, and not more than that; nothing passes, and nothing fails."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = Counting(silent.getsockname(), timeout=0.05)
        start = time.perf_counter()
        raw = await seal(signed(), "ed25519", 3)
        verdicts = await ask(raw, HERS, resolver, most=6)
        assert time.perf_counter() - start < 10.0
    assert (verdicts.spf.status, verdicts.dkim[0].status) == ("temperror", "temperror")
    assert (verdicts.arc.status, verdicts.dmarc.status) == ("temperror", "temperror")
