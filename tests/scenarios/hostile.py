"""Next hops that misbehave at their first visit, and what each recipient must come to by it.

At later visits all of them behave, so that whatever waits can be delivered.
"""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import trustme

from elemta.testing.peer import OFFERS, Action, Drop, Peer, Raw, Slow, Step

NO_PIPELINING = tuple(offer for offer in OFFERS if offer != "PIPELINING")
EHLO = "\r\n".join(("250-peer.test", *(f"250-{offer}" for offer in OFFERS), "250 X"))
GOOD = {
    "greeting": "220 peer.test ESMTP",
    "ehlo": EHLO,
    "helo": "250 peer.test",
    "starttls": "220 2.0.0 go ahead",
    "handshake": "",
    "mail": "250 2.1.0 ok",
    "rcpt": "250 2.1.5 ok",
    "data": "354 go ahead",
    "content": "",
    "dot": "250 2.0.0 taken",
}

SENT, DEFERRED, BOUNCED = "message_delivered", "message_deferred", "message_bounced"
End = tuple[str, str]
"""An event, and the enhanced status code in its reply."""


@dataclass(frozen=True)
class Case:
    """One message to one next hop.

    Attributes:
        script: As `Peer` has it.
        ends: What the first attempt comes to for each recipient.
        is_unknowable: The peer may have the message when we have to try again.
        is_hopeless: What is deferred stays so.
        policy: `tls` of the route.
    """

    name: str
    script: dict[str, Step]
    ends: tuple[End, ...]
    offers: tuple[str, ...] = OFFERS
    lmtp: bool = False
    has_tls: bool = False
    policy: str = "opportunistic"
    is_unknowable: bool = False
    is_hopeless: bool = False
    content: bytes = b"Subject: x\r\n\r\nbody\r\n"
    parameters: str = ""

    def peer(self) -> Peer:
        tls = server_context() if self.has_tls else None
        return Peer(self.script, offers=self.offers, lmtp=self.lmtp, tls=tls)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    return context


AUTHORITY = trustme.CA()


def once(stage: str, *actions: Action) -> dict[str, Step]:
    """These actions, one at each time, and the usual one ever after."""
    return {stage: [*actions, GOOD[stage]]}


def late(_command: str) -> Action:
    """An answer that takes its time, but comes."""
    until = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, until.set)
    return Slow(until, "250 2.1.0 ok")


def never() -> Action:
    return Slow(asyncio.Event(), "")


def at_every_stage() -> Iterator[Case]:
    """From MAIL on, whatever a peer can say or leave unsaid; with and without PIPELINING."""
    actions: tuple[tuple[str, Action, End], ...] = (
        ("421", Drop("421 4.3.2 closing"), (DEFERRED, "4.3.2")),
        ("4xx", "450 4.2.1 later", (DEFERRED, "4.2.1")),
        ("5xx", "550-5.7.1 no\r\n550 5.7.1 never", (BOUNCED, "5.7.1")),
        ("drop", Drop(), (DEFERRED, "4.4.2")),
        ("no code", Raw(b"what?\r\n"), (DEFERRED, "4.5.0")),
        ("two codes", Raw(b"250-a\r\n251 b\r\n"), (DEFERRED, "4.5.0")),
        ("3xx", "399 go on", (DEFERRED, "4.5.0")),
    )
    for offers, kind in ((OFFERS, "pipelined"), (NO_PIPELINING, "in turns")):
        for stage in ("mail", "rcpt", "data", "dot"):
            for name, action, end in actions:
                blind = stage == "dot" and name in {"drop", "no code", "two codes", "3xx"}
                script = once(stage, action)
                full = f"{stage} {name} {kind}"
                yield Case(full, script, (end,), offers=offers, is_unknowable=blind)


def before_mail() -> Iterator[Case]:
    for name, action, end in (
        ("421", Drop("421 4.3.2 full"), (DEFERRED, "4.3.2")),
        ("450", "450 4.3.2 busy", (DEFERRED, "4.3.2")),
        ("554", "554 5.3.2 no", (DEFERRED, "4.3.2")),  # RFC 5321 §3.1: of this host, today
        ("521", "521 5.3.2 never", (BOUNCED, "5.3.2")),  # RFC 7504
        ("drop", Drop(), (DEFERRED, "4.4.2")),
        ("http", Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), (DEFERRED, "4.5.0")),
        ("endless", Raw(b"220-" + b"x" * 5000), (DEFERRED, "4.5.0")),
        ("two lines", "220-a\r\n220 b", (SENT, "2.0.0")),
    ):
        yield Case(f"greeting {name}", once("greeting", action), (end,))
    for name, action, end in (
        ("421", Drop("421 4.3.2 full"), (DEFERRED, "4.3.2")),
        ("451", "451 4.3.0 later", (DEFERRED, "4.3.0")),
        ("drop", Drop(), (DEFERRED, "4.4.2")),
        ("unknown", "502 5.5.1 what?", (SENT, "2.0.0")),  # then HELO
    ):
        yield Case(f"ehlo {name}", once("ehlo", action), (end,))
    script = once("ehlo", "550 5.7.1 no") | once("helo", "550 5.7.1 no")
    yield Case("ehlo and helo refused", script, ((DEFERRED, "4.3.2"),))


def in_content() -> Iterator[Case]:
    yield Case("drop in content", once("content", Drop()), ((DEFERRED, "4.4.2"),))
    early = Drop("554 5.7.1 enough of that")
    yield Case("refusal in content", once("content", early), ((BOUNCED, "5.7.1"),))
    large = b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n" * 2
    yield Case(
        "drop in a large one", once("content", Drop()), ((DEFERRED, "4.4.2"),), content=large
    )
    lost = once("dot", Drop("250 2.0.0 taken"))
    yield Case("drop behind the answer", lost, ((SENT, "2.0.0"),))
    more = once("dot", Raw(b"250 2.0.0 taken\r\n250 2.0.0 and more\r\n"))
    yield Case("an answer to nothing", more, ((SENT, "2.0.0"),))


def for_several() -> Iterator[Case]:
    ok = "250 2.1.5 ok"
    sent, refused = (SENT, "2.0.0"), (BOUNCED, "5.1.1")
    busy, lost = (DEFERRED, "4.2.1"), (DEFERRED, "4.4.2")
    mix = once("rcpt", ok, "550 5.1.1 no", "450 4.2.1 busy", ok)
    yield Case("rcpt mix", mix, (sent, refused, busy, sent))
    yield Case("rcpt mix in turns", mix, (sent, refused, busy, sent), offers=NO_PIPELINING)
    many = once("rcpt", ok, "452 4.5.3 Too many recipients", "552 Too many recipients")
    yield Case("too many", many, (sent, sent, sent))
    none = once("rcpt", "550 5.1.1 no", "450 4.2.1 busy")
    yield Case("nobody taken", none, (refused, busy))
    left = once("rcpt", "550 5.1.1 no", ok, Drop())
    yield Case("drop between rcpt", left, (refused, lost, lost))
    closing = once("rcpt", ok, Drop("421 4.3.2 closing"))
    yield Case("421 between rcpt", closing, ((DEFERRED, "4.3.2"),) * 2)
    dots = once("dot", "250 2.0.0 a", "552 5.2.2 full", "452 4.2.2 full")
    yield Case("lmtp mix", dots, (sent, (BOUNCED, "5.2.2"), (DEFERRED, "4.2.2")), lmtp=True)
    half = once("dot", "250 2.0.0 a", Drop())
    yield Case("lmtp drop", half, (sent, lost), lmtp=True, is_unknowable=True)


def in_tls() -> Iterator[Case]:
    """Offered and broken: what is not demanded is done without."""
    demanded = ((DEFERRED, "4.7.5"),)
    for name, script in (
        ("refused", once("starttls", "454 4.7.0 not now")),
        ("broken", once("handshake", Raw(b"220 not a handshake\r\n"))),
        ("dropped", once("handshake", Drop())),
    ):
        yield Case(f"tls {name}", script, ((SENT, "2.0.0"),), has_tls=True)
        yield Case(f"tls {name}, required", script, demanded, has_tls=True, policy="required")
    injected = once("starttls", Raw(b"220 go ahead\r\n250 2.0.0 injected\r\n"))
    yield Case("tls with more in clear", injected, ((DEFERRED, "4.5.0"),), has_tls=True)
    yield Case("tls works", {}, ((SENT, "2.0.0"),), has_tls=True, policy="required")
    options = {"has_tls": True, "policy": "verify", "is_hopeless": True}
    yield Case("tls of a stranger", {}, demanded, **options)
    yield Case("tls required, not offered", {}, demanded, policy="required", is_hopeless=True)


def of_other_kinds() -> Iterator[Case]:
    plain = b"Subject: x\r\n\r\n\xff\r\n"
    yield Case("no 8bit", {}, ((SENT, "2.0.0"),), offers=("PIPELINING",), content=plain)
    kind = b'Content-Type: multipart/signed; boundary="b"; protocol="x/y"; micalg=sha256\r\n'
    signed = b"MIME-Version: 1.0\r\n" + kind + b"\r\n--b\r\n\r\n\xff\r\n--b--\r\n"
    options = {"offers": ("PIPELINING",), "content": signed}
    yield Case("no 8bit for what is signed", {}, ((BOUNCED, "5.6.3"),), **options)
    yield Case("small size", {}, ((BOUNCED, "5.3.4"),), offers=("SIZE 100",))
    utf8 = "Subject: ü\r\n\r\n".encode()
    options = {"offers": ("8BITMIME",), "content": utf8, "parameters": " SMTPUTF8"}
    yield Case("no utf8", {}, ((BOUNCED, "5.6.7"),), **options)
    yield Case("late answer", {"mail": late}, ((SENT, "2.0.0"),))
    for stage in ("greeting", "mail", "data"):
        yield Case(f"no answer to {stage}", once(stage, never()), ((DEFERRED, "4.4.2"),))
    for name, octets in (
        ("bare LF", b"250 2.0.0 taken\n"),
        ("only a code", b"250\r\n"),
        ("no code in it", b"250 taken\r\n"),
        ("a code of another class", b"250 5.7.1 taken\r\n"),
        ("controls", b"250 2.0.0 \x1b[2J\x00\xfftaken\r\n"),
        ("many lines", b"250-2.0.0 x\r\n" * 100 + b"250 2.0.0 x\r\n"),
    ):
        yield Case(f"answer: {name}", once("dot", Raw(octets)), ((SENT, ""),))


CASES: list[Case] = [
    *at_every_stage(),
    *before_mail(),
    *in_content(),
    *for_several(),
    *in_tls(),
    *of_other_kinds(),
]
