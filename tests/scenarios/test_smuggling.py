"""Smuggling on the wire: only CRLF.CRLF ends a message, whatever else looks like its end.

Each variant stands inside a first message, a second transaction behind it. Over TCP and unix
sockets, by DATA, BDAT and LMTP, whole and cut in two at every octet: at most one message comes
of it, and the second MAIL is never carried out. What the server did is read from its own log.
"""

import re

import pytest
from servers.crowd import Attempt, Place, hold_all
from servers.elemta import running
from servers.process import free_port

VARIANTS = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
]
HARMLESS = [b"\r\n..\r\n", b"\r\n. \r\n"]  # content as good as any
SECOND = b"MAIL FROM:<ceo@example.test>\r\nRCPT TO:<v@example.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
NEWLINE = re.compile(rb"\r\n|\r|\n")

SETTINGS = """
[relay]
local_domains = ["example.test", "dropped.test"]
trusted_networks = ["127.0.0.5/32"]
[smtp]
bare_newlines = "normalise"
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{mail}/{{domain}}/{{local}}"
[[routes]]
domains = ["*"]
via = "discard"
"""
LISTENERS = """
[[listeners]]
address = "127.0.0.1:{lmtp}"
kind = "lmtp"
[[listeners]]
address = "unix:{folder}/lmtp"
kind = "lmtp"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smuggling")
    lmtp = free_port()
    listeners = LISTENERS.format(lmtp=lmtp, folder=folder)
    with running(folder, rest=SETTINGS, listeners=listeners) as elemta:
        elemta.lmtp_port = lmtp
        elemta.wait_event("connection_closed")  # the look for the banner
        yield elemta


def places(server):
    return {
        "smtp": Place(server.port),
        "lmtp": Place(server.lmtp_port),
        "trusted smtp": Place(server.port, source="127.0.0.5"),
        "trusted lmtp": Place(server.lmtp_port, source="127.0.0.5"),
        "unix lmtp": Place(path=server.folder / "lmtp"),
    }


def cuts(data):
    """Whole, and every way to cut in two."""
    yield [data]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def attempts(way, mode, variant, recipient):
    """Sessions that send a variant and the second transaction, cut in every way."""
    content = b"Subject: s\r\n\r\nx" + variant + SECOND
    hello = b"LHLO client.test\r\n" if "lmtp" in way else b"EHLO client.test\r\n"
    for number, pieces in enumerate(cuts(content)):
        tag = f"{way}/{mode}/{variant.hex()}/{number}".replace(" ", "-")
        envelope = f"MAIL FROM:<{tag}@client.test>\r\nRCPT TO:<{recipient}>\r\n".encode()
        if mode == "data":
            yield tag, Attempt([(hello, 1), (envelope + b"DATA\r\n", 3)], pieces)
        else:
            chunk = b"BDAT %d LAST\r\n" % len(content)
            yield tag, Attempt([(hello, 1), (envelope, 2)], [chunk + pieces[0], *pieces[1:]])


def run(server, way, mode, variants, recipient="u@dropped.test"):
    """Hold all sessions; what the server said, and how many messages it took, by variant."""
    tagged = [
        (variant, tag, attempt)
        for variant in variants
        for tag, attempt in attempts(way, mode, variant, recipient)
    ]
    begun = len(server.events("connection_closed"))
    said = hold_all(places(server)[way], [attempt for _variant, _tag, attempt in tagged])
    server.wait_event("connection_closed", begun + len(tagged))
    events = server.events()
    mails = [each["mail_from"] for each in events if each["event_type"] == "mail_from_accepted"]
    assert not [sender for sender in mails if not sender.endswith("@client.test")]
    assert not server.mailbox("v")
    senders = [each["from_envelope"] for each in events if each["event_type"] == "message_received"]
    return [
        (variant, text, senders.count(f"{tag}@client.test"))
        for (variant, tag, _attempt), text in zip(tagged, said, strict=True)
    ]


@pytest.mark.parametrize("mode", ["data", "bdat"])
@pytest.mark.parametrize("way", ["smtp", "lmtp"])
def test_nothing_is_smuggled_by_strangers(server, way, mode):
    results = run(server, way, mode, VARIANTS)
    for variant, said, messages in results:
        assert messages == 0, (variant, said)
        assert said.startswith(b"554 5.6.0 ") or not said, (variant, said)
        assert said.count(b"\r\n") <= 1, (variant, said)
    # who goes on to send after the close may lose the reply: not so all of them
    assert {variant for variant, said, _messages in results if said} == set(VARIANTS)


@pytest.mark.parametrize("mode", ["data", "bdat"])
@pytest.mark.parametrize("way", ["smtp", "lmtp"])
def test_harmless_content_passes_as_one_message(server, way, mode):
    for variant, said, messages in run(server, way, mode, HARMLESS):
        assert messages == 1, (variant, said)
        assert said.startswith(b"250 2.0.0 "), (variant, said)


@pytest.mark.parametrize("mode", ["data", "bdat"])
@pytest.mark.parametrize("way", ["trusted smtp", "trusted lmtp", "unix lmtp"])
def test_content_of_trusted_clients_is_mended_and_still_one_message(server, way, mode):
    box = f"{way.replace(' ', '-')}-{mode}"
    mended = [variant for variant in VARIANTS if b"\0" not in variant]
    results = run(server, way, mode, mended, f"{box}@example.test")
    for variant, said, messages in results:
        assert messages == 1, (variant, said)
    contents = set()
    server.wait_for(lambda: len(server.mailbox(box)) >= len(results), "all mail", limit=90)
    for raw in server.wait_mail(box, len(results)):
        content = raw[raw.index(b"Subject: s") :]
        assert not NEWLINE.search(content.replace(b"\r\n", b""))
        contents.add(content)
    assert contents == {mended_content(variant, mode) for variant in mended}


def mended_content(variant, mode):
    """What is kept: up to the true end, leading dots off, every line end CRLF."""
    content = b"Subject: s\r\n\r\nx" + variant + SECOND
    if mode == "data":
        content = content[: content.index(b"\r\n.\r\n") + 2].replace(b"\r\n.", b"\r\n")
    return NEWLINE.sub(b"\r\n", content)


@pytest.mark.parametrize("way", ["trusted smtp", "unix lmtp"])
def test_nul_is_refused_to_everybody(server, way):
    with_nul = [variant for variant in VARIANTS if b"\0" in variant]
    assert len(with_nul) == 2
    for variant, said, messages in run(server, way, "data", with_nul):
        assert messages == 0, (variant, said)
        assert said.startswith(b"554 5.6.0 ") or not said


def test_attempts_are_reported(server):
    begun = len(server.events("security_event"))
    run(server, "smtp", "data", [b"\n.\r\n", b"\r\n.\0\r\n"])
    kinds = {event["kind"] for event in server.events("security_event")[begun:]}
    assert kinds == {"bare_newline", "nul"}
