"""Milters of all kinds of behaviour: what they are told, and what comes of what they say."""

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.milter import add, change, insert, puppet
from servers.process import free_port

from elemta.mail.headers import find_header_end, split_fields
from elemta.plugins import (
    Action,
    AddHeader,
    AddRecipient,
    ChangeSender,
    InsertHeader,
    RemoveHeader,
    RemoveRecipient,
    ReplaceBody,
    ReplaceHeader,
    SessionInfo,
    parse_address,
)
from elemta.plugins.asking.applying import EditLimits, Revision
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin.milter import Milter, answers
from elemta.plugins.builtin.milter.draft import Draft
from elemta.plugins.builtin.milter.packets import WISHES, Packet, read_terms
from elemta.testing import PluginBench
from elemta.testing.contexts import Scene

TEXTS = st.binary(max_size=12) | st.sampled_from([b"X-A", b"From", b"a@b.test", b"", b"1\n 2"])
PARTS = st.builds(
    lambda index, texts: index + b"".join(each + b"\0" for each in texts),
    st.sampled_from([b"", b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\2", b"\xff\xff\xff\xff"]),
    st.lists(TEXTS, max_size=3),
)
CONTENT = b"From: a@example.test\r\nX-A:  one\r\n\ttwo\r\nx-a: three\r\n\r\nHello\r\n"


def server(port, **settings):
    return {"address": f"inet:{port}@127.0.0.1", "name": "puppet"} | settings


def bench(*servers, **options):
    about = {name: options.pop(name) for name in ("content_at", "daemon_name") if name in options}
    return PluginBench(Milter, {"milters": list(servers)} | about, **options)


async def exchange(it, content=CONTENT, *, sender="s@example.org", recipients=("r@example.test",)):
    """A whole message; the answers of all stages."""
    answers = [await it.mail_from(sender)]
    answers += [await it.rcpt_to(each) for each in recipients]
    return [*answers, await it.filter(content)]


async def run(it, **about):
    await it.connect("192.0.2.7")
    await it.helo("client.example.org")
    found = await exchange(it, **about)
    await it.disconnect()
    return found


async def test_what_it_is_told():
    async with puppet() as milter, bench(server(milter.port)) as it:
        assert all(each.action is Action.CONTINUE for each in await run(it))
    assert milter.letters == "OCHMRTLLLNBEQ"
    assert milter.data("O") == [struct.pack("!III", 6, 0x1FF, 0x1FF7FF & ~0x800)]
    assert milter.data("C") == [b"[192.0.2.7]\x004\0\x00192.0.2.7\0"]
    assert milter.data("H") == [b"client.example.org\0"]
    assert milter.data("M") == [b"<s@example.org>\0"]
    assert milter.data("R") == [b"<r@example.test>\0"]
    assert milter.data("L") == [b"From\0a@example.test\0", b"X-A\0 one\n\ttwo\0", b"x-a\0three\0"]
    assert milter.data("B") == [b"Hello\r\n"]
    assert milter.known["C"]["j"] == it.plugin.tools.hostname
    assert (
        milter.known["C"] | {"client_addr": "192.0.2.7", "daemon_name": "MTA"} == milter.known["C"]
    )
    assert milter.known["M"]["mail_addr"] == "s@example.org"
    assert milter.known["R"]["rcpt_addr"] == "r@example.test"
    assert milter.known["E"]["i"] == "01TEST"


async def test_who_has_logged_in_and_what_else_was_said():
    async with puppet() as milter, bench(server(milter.port), daemon_name="ORIGINATING") as it:
        tls = {"tls_version": "TLSv1.3", "tls_cipher": "TLS_AES_256_GCM_SHA384"}
        await it.connect("2001:db8::1", client_port=54321, **tls)
        await it.helo()
        await it.auth("ann@example.test", mechanism="PLAIN")
        for line in ("MAIL FROM:<s@example.org> SIZE=10 BODY=8BITMIME", "MAIL FROM:x"):
            await it.run("on_command_validated", line=line.encode())
            await it.mail_from("s@example.org")
        await it.run("on_command_validated", line=b'RCPT TO:<"a> b"@example.test> NOTIFY=NEVER')
        await it.rcpt_to("r@example.test")
        await it.disconnect()
    assert milter.data("C") == [b"[2001:db8::1]\x006\xd4\x312001:db8::1\0"]
    assert milter.known["C"]["client_port"] == "54321"
    assert milter.data("M") == [
        b"<s@example.org>\0SIZE=10\0BODY=8BITMIME\0",
        b"<s@example.org>\0",
    ]
    assert milter.data("R") == [b"<r@example.test>\0NOTIFY=NEVER\0"]
    assert milter.known["C"]["daemon_name"] == "ORIGINATING"
    found = milter.known["M"]
    assert (found["auth_authen"], found["auth_type"]) == ("ann@example.test", "PLAIN")
    for stage in (found, milter.known["H"]):
        told = [stage[name] for name in ("tls_version", "cipher", "cipher_bits")]
        assert told == ["TLSv1.3", "TLS_AES_256_GCM_SHA384", "256"]
    assert milter.letters == "OCHMAMRAQ"


async def unknown_commands(it):
    """What comes of commands before and within a message; of these milters are told of the last."""
    await it.connect("192.0.2.7")
    await it.helo("client.example.org")
    found = [await it.command(line) for line in (b"noop", b"RSET", b"HELP me", b"XTURN \0x")]
    await it.mail_from("s@example.org")
    found += [await it.command(b"xrcpt"), await it.rcpt_to()]
    await it.disconnect()
    return found


async def test_commands_that_nobody_knows():
    async with puppet() as milter, bench(server(milter.port)) as it:
        answers = await unknown_commands(it)
        assert {each.action for each in answers} == {Action.CONTINUE}
    assert milter.letters == "OCHUMURAQ"
    assert milter.data("U") == [b"XTURN x\0", b"xrcpt\0"]


@pytest.mark.parametrize(
    ("about", "told", "action"),
    [
        ({"options": 0x100}, 0, "continue"),  # it need not be told
        ({"options": 0x20000}, 2, "continue"),  # it says nothing to that
        ({"version": 2}, 0, "continue"),  # it has never heard of it
        ({"script": {"U": [("a", b"")]}}, 2, "continue"),  # that says nothing about the message
        ({"script": {"U": [("r", b"")]}}, 2, "reject"),
        ({"script": {"U": [("y", b"500 5.5.1 What?\0")]}}, 2, "reject"),
    ],
)
async def test_what_they_say_to_commands_that_nobody_knows(about, told, action):
    async with puppet(**about) as milter, bench(server(milter.port)) as it:
        found = await unknown_commands(it)
        assert (found[3].action, found[4].action) == (action, action)
        assert found[5].action is Action.CONTINUE
    assert milter.letters.count("U") == told
    assert milter.letters.count("R") == 1


async def test_a_message_that_is_thrown_away_before_there_is_one():
    async with puppet({"U": [("d", b"")]}) as milter, bench(server(milter.port)) as it:
        found = await unknown_commands(it)
        assert found[3].action is Action.CONTINUE
        assert any("before there is one" in text for _, text in it.log)


async def test_a_null_sender_and_a_client_on_a_socket():
    async with puppet() as milter, bench(server(milter.port)) as it:
        await it.connect("")
        await it.helo()
        await exchange(it, sender="")
        await it.disconnect()
    assert milter.data("C") == [b"localhost\0U"]
    assert milter.data("M") == [b"<>\0"]


@pytest.mark.parametrize(
    ("options", "letters"),
    [
        (0x1, "OHMRTLLLNBEQ"),
        (0x2, "OCMRTLLLNBEQ"),
        (0x4, "OCHRTLLLNBEQ"),
        (0x8, "OCHMTLLLNBEQ"),
        (0x10, "OCHMRTLLLNEQ"),
        (0x20, "OCHMRTNBEQ"),
        (0x40, "OCHMRTLLLBEQ"),
        (0x200, "OCHMRLLLNBEQ"),
        (0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x200, "OEQ"),
        (0x80 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x40000 | 0x80000, "OCHMRTLLLNBEQ"),
    ],
)
async def test_what_it_does_not_want_to_know_or_to_answer(options, letters):
    script = {"E": [add("X-Seen", "yes"), ("c", b"")]}
    async with puppet(script, options=options) as milter, bench(server(milter.port)) as it:
        assert (await run(it))[-1].edits == (AddHeader("X-Seen", "yes", verbatim=True),)
    assert milter.letters == letters


async def test_spaces_before_values_where_it_wants_them():
    async with puppet(options=0x100000) as milter, bench(server(milter.port)) as it:
        await run(it)
    assert milter.data("L")[1] == b"X-A\0  one\n\ttwo\0"


async def test_macros_that_it_chooses():
    chosen = struct.pack("!I", 0) + b"j {client_addr}\0" + struct.pack("!I", 2) + b"\0"
    async with puppet(macros=chosen) as milter, bench(server(milter.port)) as it:
        await run(it)
    assert set(milter.known["C"]) == {"j", "client_addr"}
    assert "M" not in milter.known
    assert "rcpt_addr" in milter.known["R"]


async def test_a_large_body_comes_in_pieces_and_can_be_skipped():
    content = b"A: b\r\n\r\n" + b"x" * 76 + b"\r\n"
    content += (b"y" * 76 + b"\r\n") * 4000
    async with puppet() as milter, bench(server(milter.port)) as it:
        await run(it, content=content)
    pieces = milter.data("B")
    assert b"".join(pieces) == content[8:]
    assert [len(each) for each in pieces[:-1]] == [65535] * (len(pieces) - 1)
    async with puppet({"B": [("s", b"")]}) as milter, bench(server(milter.port)) as it:
        await run(it, content=content)
    assert milter.letters == "OCHMRTLNBEQ"


STAGES = {"C": 0, "H": 1, "M": 2, "R": 3, "T": 4, "L": 4, "N": 4, "B": 4, "E": 4}


async def stages(it):
    """The answers at connect, HELO, MAIL, RCPT and the content."""
    found = [await it.connect("192.0.2.7"), await it.helo(), await it.mail_from()]
    return [*found, await it.rcpt_to(), await it.filter(CONTENT)]


@pytest.mark.parametrize("letter", STAGES)
@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (("r", b""), "550 5.7.1 Refused by local policy"),
        (("t", b""), "451 4.7.1 Try again later"),
        (("f", b""), "421 4.3.2 Service not available, closing connection"),
        (("4", b""), "421 4.3.2 Service not available, closing connection"),
        (("y", b"554 5.7.9 No 100%% fun\0"), "554 5.7.9 No 100% fun"),
        (("y", b"554 no code\0"), "554 5.7.1 no code"),
        (("y", b"550 4.2.2 other class\0"), "550 5.7.1 other class"),
        (("y", b"452\0"), "452 4.7.1 Try again later"),
        (("y", b"451-4.7.0 one\r\n451 4.7.0 two\0"), "451 4.7.0 one two"),
        (("y", b"550 5.7.1 a\tb\x1b[0m\xff\0"), "550 5.7.1 a b [0m\ufffd"),
    ],
)
async def test_refusals(letter, answer, reply):
    async with puppet({letter: [answer]}) as milter, bench(server(milter.port)) as it:
        found = (await stages(it))[STAGES[letter]]
        assert str(found.reply) == reply
        assert found.note == "milter puppet"
        assert not it.log
        await it.disconnect()


@pytest.mark.parametrize("letter", ["M", "R", "T", "L", "N", "B", "E"])
async def test_discarding(letter):
    async with puppet({letter: [("d", b"")]}) as milter, bench(server(milter.port)) as it:
        found = await stages(it)
        assert Action.DISCARD in [each.action for each in found]
        assert found[3].action is Action.CONTINUE  # other recipients are not concerned less
        await it.disconnect()


@pytest.mark.parametrize("letter", STAGES)
async def test_accepting_ends_the_questions(letter):
    async with puppet({letter: [("a", b"")]}) as milter, bench(server(milter.port)) as it:
        assert all(each.action is Action.CONTINUE for each in await stages(it))
        asked = milter.letters
        assert all(each.action is Action.CONTINUE for each in await exchange(it))
        again = milter.letters[len(asked) :]
        await it.disconnect()
    assert again == "" if letter in "CH" else again.lstrip("A").startswith("M")


async def test_recipients_are_judged_one_by_one():
    async with puppet() as milter, bench(server(milter.port)) as it:
        await it.connect()
        await it.helo()
        await it.mail_from()
        milter.script = {"R": [("y", b"550 5.1.1 not here\0")]}
        assert str((await it.rcpt_to("a@example.test")).reply) == "550 5.1.1 not here"
        milter.script = {}
        assert not (await it.rcpt_to("b@example.test")).is_refused
        assert not (await it.filter(CONTENT)).is_refused
        await it.disconnect()


NUL_ADDRESS = "bob@example.test"


@pytest.mark.parametrize(
    ("said", "edits"),
    [
        ([add("X-B", "c")], (AddHeader("X-B", "c", verbatim=True),)),
        ([insert(1, "X-B", " c;\n\td")], (InsertHeader("X-B", " c;\r\n\td", 1, verbatim=True),)),
        ([insert(0, "X-B", "c\nEvil: d")], (InsertHeader("X-B", "c\r\n\tEvil: d", verbatim=True),)),
        ([insert(0, "X-B", "c\r\n\r\nd\n")], (InsertHeader("X-B", "c\r\n\td", verbatim=True),)),
        ([add("X-B", "\u00e9")], (AddHeader("X-B", "\u00e9"),)),
        ([change(2, "X-A", "z")], (ReplaceHeader("X-A", "z", 2, verbatim=True),)),
        ([change(0, "x-a", "z")], (ReplaceHeader("x-a", "z", 1, verbatim=True),)),
        ([change(2, "X-A", "")], (RemoveHeader("X-A", 2),)),
        ([change(3, "X-A", "z")], (AddHeader("X-A", "z", verbatim=True),)),
        ([change(3, "X-A", "")], ()),
        (
            [change(1, "X-A", ""), change(1, "X-A", "z"), change(2, "X-A", "q")],
            (
                RemoveHeader("X-A", 1),
                ReplaceHeader("X-A", "z", 1, verbatim=True),
                AddHeader("X-A", "q", verbatim=True),
            ),
        ),
        ([("b", b"one\ntwo"), ("b", b"\r\n")], (ReplaceBody(b"one\r\ntwo\r\n"),)),
        ([("b", b"")], (ReplaceBody(b""),)),
        ([("+", b"<bob@example.test>\0")], (AddRecipient(NUL_ADDRESS),)),
        ([("2", b"<bob@example.test>\0NOTIFY=NEVER\0")], (AddRecipient(NUL_ADDRESS),)),
        ([("-", b"bob@example.test\0")], (RemoveRecipient(NUL_ADDRESS),)),
        ([("e", b"<bob@example.test>\0")], (ChangeSender(NUL_ADDRESS),)),
        ([("e", b"<>\0SIZE=1\0")], (ChangeSender(""),)),
        ([("p", b""), add("X-B", "c"), ("p", b"")], (AddHeader("X-B", "c", verbatim=True),)),
    ],
)
async def test_changes(said, edits):
    async with puppet({"E": [*said, ("a", b"")]}) as milter, bench(server(milter.port)) as it:
        found = (await run(it))[-1]
    assert (found.action, found.edits) == (Action.CONTINUE, edits)


async def test_quarantine():
    script = {"E": [("q", b"looks odd\0"), add("X-B", "c"), ("c", b"")]}
    async with puppet(script) as milter, bench(server(milter.port)) as it:
        found = (await run(it))[-1]
    assert (found.action, found.note) == (Action.QUARANTINE, "milter puppet: looks odd")
    assert found.edits == (AddHeader("X-B", "c", verbatim=True),)


async def test_changes_of_a_message_that_it_refuses_are_forgotten():
    script = {"E": [add("X-B", "c"), ("q", b"odd\0"), ("r", b"")]}
    async with puppet(script) as milter, bench(server(milter.port)) as it:
        found = (await run(it))[-1]
    assert (found.action, found.edits) == (Action.REJECT, ())


async def test_the_next_one_sees_what_the_first_has_changed():
    script = {"E": [insert(1, "X-New", "n"), change(1, "X-A", ""), ("b", b"other\r\n"), ("c", b"")]}
    async with (
        puppet(script) as first,
        puppet() as second,
        bench(server(first.port), server(second.port, name="second")) as it,
    ):
        await run(it)
    assert second.data("L") == [b"X-New\0n\0", b"From\0a@example.test\0", b"x-a\0three\0"]
    assert second.data("B") == [b"other\r\n"]


async def test_the_first_refusal_counts():
    async with (
        puppet({"M": [("t", b"")]}) as first,
        puppet() as second,
        bench(server(first.port), server(second.port, name="second")) as it,
    ):
        await it.connect()
        await it.helo()
        assert (await it.mail_from()).action is Action.DEFER
        await it.disconnect()
    assert second.letters == "OCHQ"


async def test_the_hook_in_which_it_gets_the_content():
    async with (
        puppet({"E": [("r", b"")]}) as milter,
        bench(server(milter.port), content_at="on_enqueue") as it,
    ):
        await it.connect()
        await it.helo()
        await it.mail_from()
        for ask in (it.data, it.validated, it.filter):
            assert not (await ask(CONTENT)).is_refused
        assert (await it.enqueue(CONTENT)).is_refused
        await it.disconnect()


async def test_no_message_comes_past_one_that_was_not_told_of_its_sender():
    async with puppet() as milter, bench(server(milter.port)) as it:
        await it.connect()
        assert (await it.rcpt_to()).action is Action.DEFER
        assert (await it.filter(CONTENT)).action is Action.DEFER
        await it.disconnect()


# ---- several messages, several clients


async def test_messages_one_after_the_other_and_one_that_is_given_up():
    async with puppet() as milter, bench(server(milter.port)) as it:
        await it.connect()
        await it.helo()
        await exchange(it)
        await it.mail_from()
        await it.helo()
        await exchange(it)
        await it.mail_from()
        await it.disconnect()
    assert milter.letters == "OCHMRTLLLNBEMAHMRTLLLNBEMAQ"
    assert milter.connections == 1


async def test_a_connection_serves_other_clients():
    async with puppet() as milter, bench(server(milter.port, reuse=True)) as it:
        await run(it)
        await run(it)
    assert milter.letters == "OCHMRTLLLNBEKCHMRTLLLNBEKQ"
    assert milter.connections == 1


@pytest.mark.parametrize("about", [{"version": 4}, {"version": 2}])
async def test_old_ones_get_a_connection_for_each_client(about):
    async with puppet(options=0, **about) as milter, bench(server(milter.port, reuse=True)) as it:
        await run(it)
        await run(it)
    assert milter.connections == 2
    assert ("T" in milter.letters) is (about["version"] >= 4)


async def test_an_old_connection_that_ends_is_no_failure():
    async with puppet({"K": [None]}) as milter, bench(server(milter.port, reuse=True)) as it:
        await run(it)
        assert not any(each.is_refused for each in await run(it))
        assert it.count("failures", milter="puppet") == 0
    assert milter.connections == 2


async def test_a_milter_that_is_started_anew_between_messages():
    async with bench(server(port := free_port())) as it:
        async with puppet(port=port, script={"E": [("c", b""), None]}):
            await it.connect()
            await it.helo()
            await exchange(it)
        async with puppet(port=port) as milter:
            assert not any(each.is_refused for each in await exchange(it))
            await it.disconnect()
    assert milter.letters == "OCHMRTLLLNBEQ"
    assert it.count("failures", milter="puppet") == 0


# ---- misbehaviour

BAD = {
    "closes": [None],
    "says nothing known": [("?", b"")],
    "has no letter": [b"\0\0\0\0"],
    "is endless": [b"\xff\xff\xff\xffx"],
    "replies 250": [("y", b"250 2.0.0 fine\0")],
    "replies nonsense": [("y", b"hello\0")],
    "replies two codes": [("y", b"550-a\r\n450 b\0")],
    "has a reply without an end": [("y", b"550 5.7.1 a")],
    "closes within": [b"\0\0\0\x09c"],
}


@pytest.mark.parametrize("letter", ["M", "R", "T", "L", "N", "B", "E"])
@pytest.mark.parametrize("what", BAD)
async def test_what_nobody_should_say(letter, what):
    said = BAD[what] if what != "closes within" else [*BAD[what], None]
    async with (
        puppet({letter: said}) as milter,
        bench(server(milter.port, end_timeout=0.5), timeout=5) as it,
    ):
        found = (await stages(it))[STAGES[letter]]
        text = "451 4.3.2 A content check is not available, try again later"
        assert (str(found.reply), found.error) == (text, "")
        assert it.count("failures", milter="puppet") == 1
        assert (await it.filter(CONTENT)).is_refused
        await it.disconnect()


@pytest.mark.parametrize(
    ("policy", "action"),
    [
        ("defer", Action.DEFER),
        ("reject", Action.REJECT),
        ("quarantine", Action.QUARANTINE),
        ("continue", Action.CONTINUE),
    ],
)
@pytest.mark.parametrize("letter", "OCHMRTE")
async def test_what_is_done_without_it(policy, action, letter):
    async with (
        puppet({letter: [None]}) as milter,
        bench(server(milter.port, on_failure=policy)) as it,
    ):
        found = await stages(it)
        assert [each.action for each in found[:2]] == [Action.CONTINUE] * 2
        assert (found[4].action, found[4].edits) == (action, ())
        assert it.session.message.notes["milter.failed"] == "puppet"
        assert any("milter puppet: " in text for _, text in it.log)
        await it.disconnect()


@pytest.mark.parametrize(
    "said",
    [
        [add("X B", "c"), ("c", b"")],
        [("h", b"X-B\0c"), ("c", b"")],
        [("i", b"\0\0"), ("c", b"")],
        [("+", b"nobody\0"), ("c", b"")],
        [("+", b"a b@c\0"), ("c", b"")],
        [("b", b"a\0b"), ("c", b"")],
        [("q", b""), ("c", b"")],
        [("s", b"")],
        [add("X-B", "c")] * 1001 + [("c", b"")],
        [("p", b"")] * 10_001,
        [("b", b"x" * 60_000)] * 20,
        [("O", b"")],
    ],
    ids=lambda said: f"{said[0][0]}{len(said)}",
)
async def test_what_it_must_not_want(said):
    async with (
        puppet({"E": [add("X-First", "y"), *said]}) as milter,
        bench(server(milter.port, max_answer=1_000_000)) as it,
    ):
        found = (await run(it))[-1]
    assert (found.action, found.edits, found.error) == (Action.DEFER, (), "")


async def test_what_it_has_not_said_that_it_would_do():
    async with (
        puppet({"E": [("b", b"x\r\n"), ("c", b"")]}, wishes=0x1) as milter,
        bench(server(milter.port)) as it,
    ):
        found = (await run(it))[-1]
        assert found.action is Action.DEFER
        assert "did not say it would" in found.note


async def test_what_it_has_half_done_when_it_fails_is_forgotten():
    async with (
        puppet({"E": [change(1, "X-A", ""), ("b", b"new"), None]}) as first,
        puppet() as second,
    ):
        servers = (server(first.port, on_failure="continue"), server(second.port, name="b"))
        async with bench(*servers) as it:
            assert (await run(it))[-1].edits == ()
    assert len(second.data("L")) == 3
    assert second.data("B") == [b"Hello\r\n"]


@pytest.mark.parametrize(
    "terms",
    [
        struct.pack("!III", 1, 0, 0),
        struct.pack("!III", 7, 0, 0),
        struct.pack("!III", 6, 0x200, 0),
        struct.pack("!III", 6, 0, 0x20000000),
        b"\0\0\0\6",
        struct.pack("!IIII", 6, 0, 0, 9) + b"j\0",
        struct.pack("!III", 6, 0, 0) + b"\0\0",
        struct.pack("!IIII", 6, 0, 0, 0) + b"j",
    ],
)
async def test_terms_that_are_not_ours(terms):
    async with puppet({"O": [("O", terms)]}) as milter, bench(server(milter.port)) as it:
        await it.connect()
        assert (await it.mail_from()).action is Action.DEFER
        await it.disconnect()


@pytest.mark.parametrize("letter", "OMRTLNBE")
async def test_it_never_answers(letter):
    limits = dict.fromkeys(
        ("connect_timeout", "command_timeout", "content_timeout", "end_timeout"), 0.2
    )
    async with puppet(hangs=letter) as milter, bench(server(milter.port, **limits)) as it:
        found = await stages(it)
        assert found[4].action is Action.DEFER
        assert any("no answer within 0.2 s" in text for _, text in it.log)
        await it.disconnect()


async def test_progress_does_not_last_for_ever():
    async with puppet({"E": [("p", b"")]}) as milter:
        settings = server(milter.port, end_timeout=5, message_timeout=0.1)
        async with bench(settings) as it:
            found = (await run(it))[-1]
            assert found.action is Action.DEFER
            assert "not done with the message within 0.1 s" in found.note


async def test_a_session_that_is_cut_off_meanwhile():
    async with puppet(hangs="E") as milter, bench(server(milter.port)) as it:
        asked = asyncio.ensure_future(run(it))
        await milter.reached.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await it.disconnect()
        await milter.ended.wait()


async def test_it_is_left_alone_for_a_while():
    port = free_port()
    settings = server(port, breaker_failures=3, breaker_pause=30, on_failure="continue")
    async with bench(settings) as it:
        for _ in range(4):
            await it.mail_from()
        assert "left alone" in it.log[-1][1]
        async with puppet(port=port) as milter:
            for _ in range(2):  # to want it does not make the pause longer
                it.clock.advance(14)
                await it.mail_from()
                assert milter.connections == 0
            it.clock.advance(3)
            await exchange(it)
            await exchange(it)
            assert milter.letters == "OCMRTLLLNBEMRTLLLNBE"
            await it.disconnect()


async def test_one_question_goes_through_after_the_pause():
    port = free_port()
    settings = server(port, breaker_failures=1, breaker_pause=30, on_failure="continue")
    async with bench(settings) as it:
        await it.mail_from()
        it.clock.advance(31)
        await it.mail_from()
        assert "no connection" in it.log[-1][1]
        await it.mail_from()
        assert "left alone" in it.log[-1][1]


CHANGES = st.sampled_from("him+2-eqbpcartdys4f?")


@given(st.lists(st.tuples(CHANGES, st.binary(max_size=40) | PARTS)))
def test_no_answers_make_changes_that_break_a_message(said):
    scene = Scene(SessionInfo("1", "192.0.2.1", "192.0.2.2:25", "mta", is_trusted=False))
    draft = Draft(scene.build("on_filter", content=CONTENT))
    try:
        for letter, data in said:
            packet = Packet(letter.encode(), data)
            if not draft.change(packet, WISHES):
                answers.read_refusal(packet, "puppet")
        draft.finish()
    except Trouble:
        return
    section = CONTENT.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    limits = EditLimits(1 << 20, 10_000, 1000, 1 << 20)
    revision = Revision(section, None, [parse_address("a@example.test")], limits)
    revision.apply_all(draft.edits)
    assert find_header_end(revision.head) == len(revision.head)
    assert b"\n" not in revision.head.replace(b"\r\n", b"")
    assert all(name for name, _ in split_fields(revision.head))
    assert [name.lower() for name, _ in draft._fields if name] == [
        name for name, _ in split_fields(revision.head)
    ]


@given(st.binary(max_size=60))
def test_no_terms_break_anything(data):
    try:
        terms = read_terms(Packet(b"O", data))
    except Trouble:
        return
    assert 2 <= terms.version <= 6


async def test_it_listens_on_a_socket(tmp_path):
    async with puppet() as milter:
        path = tmp_path / "socket"
        unix = await asyncio.start_unix_server(milter.serve, path)
        async with bench({"address": f"unix:{path}", "reuse": True}) as it:
            assert not any(each.is_refused for each in await run(it))
        unix.close()
    assert milter.letters.startswith("OCHMRTLLLNBEK")


@pytest.mark.parametrize(
    "settings",
    [
        {"milters": [{"address": "nowhere"}]},
        {"milters": [{"address": "host:0"}]},
        {"milters": [{"address": "unix:relative"}]},
        {"milters": [{"address": "a:1"}, {"address": "a:1"}]},
        {"milters": [{"address": "a:1", "name": "b c"}]},
        {"milters": [{"address": "a:1", "end_timeout": 0}]},
    ],
)
def test_settings_that_are_none(settings):
    with pytest.raises(ValueError):  # noqa: PT011 - of pydantic
        PluginBench(Milter, settings)
