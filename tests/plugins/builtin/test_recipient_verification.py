"""Recipients that the next hop or a table does not know, and what is made of silence."""

import asyncio
import contextlib

import apsw
import pytest
from pydantic import ValidationError
from servers.next_hop import OFFERS, NextHop
from servers.process import free_port

from elemta.mail.errors import PluginError
from elemta.plugins import Action
from elemta.plugins.builtin.recipient_verification import RecipientVerification
from elemta.testing import PluginBench

KNOWN = "bob@example.test"
CATCH_ALL = "recipient-verification.catch-all"
UNVERIFIED = "recipient-verification.unverified"


def answer(stage, about):
    """Know one recipient."""
    return "550 5.1.1 no" if stage == "rcpt" and about != KNOWN else None


def bench(port, *, place="127.0.0.1", options=None, **settings):
    destination = {
        "domains": ["example.test", "*.below.test"],
        "method": "smtp",
        "server": f"{place}:{port}",
    }
    return PluginBench(
        RecipientVerification, {"destinations": [destination | settings]} | (options or {})
    )


async def ask(it, recipient, sender="a@else.test"):
    await it.mail_from(sender)
    return await it.rcpt_to(recipient)


def told(result):
    return (result.action, result.reply.code, result.reply.enhanced) if result.reply else None


UNKNOWN = (Action.REJECT, 550, "5.1.1")


def unclear(enhanced):
    return (Action.DEFER, 450, enhanced)


@pytest.mark.parametrize("method", ["smtp", "lmtp"])
async def test_who_is_not_known_is_refused_and_no_mail_is_sent(method):
    async with NextHop(answer, lmtp=method == "lmtp") as hop, bench(hop.port, method=method) as it:
        assert (await ask(it, KNOWN)).action is Action.CONTINUE
        assert told(await ask(it, "eve@example.test")) == UNKNOWN
        assert told(await ask(it, "eve@x.below.test")) == UNKNOWN
        assert (await ask(it, "eve@below.test")).action is Action.CONTINUE
        assert (await ask(it, "eve@else.test")).action is Action.CONTINUE
    assert hop.taken == []
    verbs = [command.partition(" ")[0] for command in hop.commands]
    hello = "LHLO" if method == "lmtp" else "EHLO"
    assert verbs[:4] == [hello, "MAIL", "RCPT", "RCPT"]
    assert set(verbs) == {hello, "MAIL", "RCPT", "QUIT"}
    assert all("<>" in command for command in hop.commands if command.startswith("MAIL"))


async def test_the_sender_of_questions_can_be_set():
    options = {"probe_sender": "verify@mx.test"}
    async with NextHop(answer) as hop, bench(hop.port, options=options) as it:
        await ask(it, KNOWN)
    assert "MAIL FROM:<verify@mx.test> SIZE=0" in hop.commands


async def test_both_answers_are_remembered_each_for_its_time():
    options = {"positive_ttl": "1h", "negative_ttl": "10m"}
    async with NextHop(answer) as hop, bench(hop.port, options=options) as it:
        for _ in range(2):
            await ask(it, KNOWN)
            assert told(await ask(it, "eve@example.test")) == UNKNOWN
            assert hop.sessions == 2
        it.clock.advance(601)
        await ask(it, KNOWN)
        assert hop.sessions == 2
        assert told(await ask(it, "eve@example.test")) == UNKNOWN
        assert hop.sessions == 3
        it.clock.advance(3001)
        await ask(it, KNOWN)
        assert hop.sessions == 4


async def test_a_domain_that_takes_all_is_noted_and_not_asked_again():
    async with NextHop() as hop, bench(hop.port) as it:
        for name in ("bob", "eve", "ann"):
            assert (await ask(it, f"{name}@example.test")).action is Action.CONTINUE
        assert hop.sessions == 1
        assert it.session.message.notes[CATCH_ALL] == "example.test"
        assert sum("takes all recipients of example.test" in text for _, text in it.log) == 1
    recipients = [command for command in hop.commands if command.startswith("RCPT")]
    assert len(recipients) == 2
    assert recipients[1].startswith("RCPT TO:<nobody-")


async def test_it_need_not_be_looked_for():
    options = {"detect_catch_all": False}
    async with NextHop() as hop, bench(hop.port, options=options) as it:
        await ask(it, "bob@example.test")
        assert CATCH_ALL not in it.session.message.notes
    assert sum(command.startswith("RCPT") for command in hop.commands) == 1


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("greeting", "554 5.7.1 not you"),
        ("ehlo", "421 4.3.2 too busy"),
        ("mail", "550 5.1.8 not this sender"),
        ("rcpt", "550 5.7.1 you are on a list"),
        ("rcpt", "451 4.3.0 later"),
        ("rcpt", "554 no transaction"),
        ("rcpt", ""),
        ("greeting", "hello?"),
    ],
)
async def test_what_says_nothing_about_the_recipient_is_no_refusal(stage, reply):
    def refuse(now, _about):
        return reply if now == stage else None

    async with NextHop(refuse) as hop, bench(hop.port) as it:
        result = await ask(it, KNOWN)
        assert (result.action, result.reply.code) == (Action.DEFER, 450)
        assert result.reply.enhanced.startswith("4.4.")


@pytest.mark.parametrize("code", [550, 551, 553])
async def test_without_an_enhanced_code_the_code_counts(code):
    def refuse(now, _about):
        return f"{code} no" if now == "rcpt" else None

    async with NextHop(refuse) as hop, bench(hop.port) as it:
        assert told(await ask(it, KNOWN)) == UNKNOWN


async def test_a_server_that_is_down():
    port = free_port()
    async with bench(port) as it:
        assert told(await ask(it, KNOWN)) == unclear("4.4.1")
    async with bench(port, on_unreachable="accept") as it:
        assert (await ask(it, KNOWN)).action is Action.CONTINUE
        assert it.session.message.notes[UNVERIFIED] == KNOWN
        assert any("taken unverified" in text for _, text in it.log)


async def test_a_server_that_is_silent():
    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with bench(port, options={"probe_timeout": 1}) as it:
            assert told(await ask(it, KNOWN)) == unclear("4.4.2")


async def test_a_server_that_is_down_is_left_alone_for_a_while():
    hop = NextHop(answer, port=free_port())
    options = {"breaker_failures": 2, "breaker_pause": 60}
    async with bench(hop.port, options=options) as it:
        for _ in range(2):
            assert told(await ask(it, KNOWN)) == unclear("4.4.1")
        async with hop:
            assert told(await ask(it, KNOWN)) == unclear("4.4.1")
            assert hop.sessions == 0
            it.clock.advance(61)
            assert (await ask(it, KNOWN)).action is Action.CONTINUE


async def test_nonsense_is_a_failure_and_an_answer_that_says_nothing_is_none():
    said = [b"\0\xff" * 10_000 + b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"421 4.3.2 busy\r\n"]
    greetings = iter([*said[:2], *(said[2:] * 2), *said[:2]])
    asked = 0

    async def greet(_reader, writer):
        nonlocal asked
        asked += 1
        writer.write(next(greetings))
        writer.close()

    options = {"breaker_failures": 2, "breaker_pause": 60}
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with bench(port, options=options) as it:
            for wait, enhanced, count in (
                (0, "4.4.2", 1),
                (0, "4.4.2", 2),
                (0, "4.4.1", 2),  # it is left alone
                (61, "4.4.3", 3),  # it answers
                (0, "4.4.3", 4),
                (0, "4.4.2", 5),
                (0, "4.4.2", 6),
            ):
                it.clock.advance(wait)
                assert told(await ask(it, KNOWN)) == unclear(enhanced)
                assert asked == count
        assert it.count("failures", server=f"127.0.0.1:{port}") == 4


async def test_a_server_is_asked_little_at_the_same_time():
    async with NextHop(answer) as hop, bench(hop.port, options={"max_probes": 2}) as it:
        await it.mail_from("a@else.test")
        results = await asyncio.gather(*(it.rcpt_to(f"u{n}@example.test") for n in range(12)))
        assert {told(result) for result in results} == {UNKNOWN}
        assert hop.sessions == 12
        assert hop.most_open <= 2


async def test_nobody_asks_the_same_twice():
    async with NextHop(answer) as hop, bench(hop.port) as it:
        await it.mail_from("a@else.test")
        await asyncio.gather(*(it.rcpt_to("eve@example.test") for _ in range(12)))
        assert hop.sessions == 1


async def test_a_question_of_ours_is_not_passed_on():
    async with NextHop(answer) as hop, bench(hop.port) as it:
        await it.helo(it.plugin.tools.hostname)
        assert told(await ask(it, KNOWN, sender="")) == unclear("4.4.6")
        assert hop.sessions == 0
        await it.helo("other.test")
        assert (await ask(it, KNOWN, sender="")).action is Action.CONTINUE
        assert hop.sessions == 1


async def test_servers_that_ask_each_other_come_to_an_end():
    """What a server does to answer is to ask us the same, with the null sender."""
    answers = []

    async def ask_back(reader, writer):
        writer.write(b"220 next ESMTP\r\n")
        while line := await reader.readline():
            if line.startswith(b"RCPT"):
                answers.append(await ask(it, KNOWN, sender=""))
                writer.write(b"450 4.4.6 loop\r\n")
            else:
                writer.write(b"250 next\r\n")
        writer.close()

    server = await asyncio.start_server(ask_back, "127.0.0.1", 0)
    async with server, bench(server.sockets[0].getsockname()[1]) as it:
        assert told(await ask(it, KNOWN)) == unclear("4.4.3")
    assert [told(each) for each in answers] == [unclear("4.4.6")]


async def test_tls_that_is_offered_and_does_not_work_is_left():
    offers = (*OFFERS, "STARTTLS")
    async with NextHop(answer, offers=offers) as hop, bench(hop.port) as it:
        assert told(await ask(it, "eve@example.test")) == UNKNOWN
        assert "STARTTLS" in hop.commands
    async with NextHop(answer, offers=offers) as hop, bench(hop.port, tls="none") as it:
        assert told(await ask(it, "eve@example.test")) == UNKNOWN
        assert "STARTTLS" not in hop.commands


async def test_a_broken_handshake_is_followed_by_a_question_in_clear():
    sessions = []

    async def break_tls(reader, writer):
        sessions.append(writer)
        writer.write(b"220 next ESMTP\r\n")
        while line := await reader.readline():
            if line.startswith(b"EHLO"):
                writer.write(b"250-next\r\n250 STARTTLS\r\n")
            elif line.startswith(b"STARTTLS"):
                writer.write(b"220 go\r\n")
                await writer.drain()
                await reader.read(1)
                break
            else:
                writer.write(b"550 5.1.1 no\r\n" if line.startswith(b"RCPT") else b"250 ok\r\n")
        writer.close()

    server = await asyncio.start_server(break_tls, "127.0.0.1", 0)
    async with server, bench(server.sockets[0].getsockname()[1]) as it:
        assert told(await ask(it, KNOWN)) == UNKNOWN
    assert len(sessions) == 2


# ---- tables


def table(path, **settings):
    destination = {"domains": ["*"], "method": "table", "table": str(path)}
    return PluginBench(RecipientVerification, {"destinations": [destination | settings]})


async def test_a_table_says_who_there_is(tmp_path):
    path = tmp_path / "recipients"
    path.write_text("# ours\nBob@example.test\n@all.test # a whole domain\n\n")
    async with table(path) as it:
        for known in ("bob@example.test", "BOB+tag@example.test", "x@all.test"):
            assert (await ask(it, known)).action is Action.CONTINUE, known
        for unknown in ("eve@example.test", "bobby@example.test", "x@sub.all.test"):
            assert told(await ask(it, unknown)) == UNKNOWN, unknown
    async with table(path, delimiter="") as it:
        assert told(await ask(it, "bob+tag@example.test")) == UNKNOWN


async def test_a_table_is_read_again_when_it_has_changed(tmp_path):
    path = tmp_path / "recipients"
    path.write_text("bob@example.test\n")
    async with table(path) as it:
        assert told(await ask(it, "eve@example.test")) == UNKNOWN
        path.write_text("bob@example.test\neve@example.test\n")
        it.clock.advance(6)
        assert (await ask(it, "eve@example.test")).action is Action.CONTINUE
        path.unlink()
        it.clock.advance(6)
        assert (await ask(it, "eve@example.test")).action is Action.CONTINUE
        assert any("the last table" in text for _, text in it.log)


async def test_without_its_table_it_does_not_begin(tmp_path):
    with pytest.raises(PluginError, match="recipients"):
        async with table(tmp_path / "recipients") as it:
            await ask(it, KNOWN)


def database(path, *, patience="20s", **settings):
    destination = {"domains": ["*"], "method": "sqlite", "database": str(path)}
    return PluginBench(
        RecipientVerification,
        {"destinations": [destination | settings], "probe_timeout": patience},
    )


def fill(path, *addresses):
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE recipients (address TEXT PRIMARY KEY)")
        for address in addresses:
            connection.execute("INSERT INTO recipients VALUES (?)", (address,))


async def test_a_database_says_who_there_is(tmp_path):
    path = tmp_path / "mail.db"
    fill(path, "bob@example.test", "@all.test")
    odd = "'; DROP TABLE recipients; --"
    async with database(path) as it:
        for known in ("bob@example.test", "BOB+tag@example.test"):
            assert (await ask(it, known)).action is Action.CONTINUE, known
        for unknown in ("eve@example.test", "x@all.test", f'"{odd}"@example.test'):
            assert told(await ask(it, unknown)) == UNKNOWN, unknown
        other = tmp_path / "other.db"
        fill(other, "eve@example.test")
        other.replace(path)
        assert (await ask(it, "eve@example.test")).action is Action.CONTINUE
        path.unlink()
        assert told(await ask(it, "eve@example.test")) == unclear("4.3.0")
    fill(path, "bob@example.test", "@all.test")
    query = "SELECT 1 FROM recipients WHERE address IN (:address, '@' || :domain) AND :local <> ''"
    async with database(path, query=query, delimiter="") as it:
        assert (await ask(it, "x@all.test")).action is Action.CONTINUE
        assert told(await ask(it, "bob+tag@example.test")) == UNKNOWN


async def test_a_database_that_does_not_answer_in_time(tmp_path):
    path = tmp_path / "mail.db"
    fill(path)
    endless = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
        "SELECT 1 FROM c WHERE :local = 'slow' AND x < 0"
        " UNION ALL SELECT 1 WHERE :local = 'bob'"
    )
    limited = f"SELECT 1 WHERE :local = 'bob' OR (:local = 'slow' AND EXISTS ({endless}))"
    async with database(path, query=limited, patience="1s") as it:
        assert told(await ask(it, "slow@example.test")) == unclear("4.3.0")
        assert (await ask(it, KNOWN)).action is Action.CONTINUE


@pytest.mark.parametrize(
    "query", ["SELECT 1 FROM nothing", "DELETE FROM recipients", "SELECT", "SELECT 1 WHERE :other"]
)
async def test_with_a_query_that_cannot_be_asked_it_does_not_begin(tmp_path, query):
    path = tmp_path / "mail.db"
    fill(path, KNOWN)
    with pytest.raises(PluginError, match=r"mail\.db"):
        async with database(path, query=query) as it:
            await ask(it, KNOWN)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("SELECT address FROM recipients").fetchall() == [(KNOWN,)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "smtp"},
        {"method": "table"},
        {"method": "sqlite"},
        {"method": "sqlite", "database": "mail.db"},
        {"method": "table", "table": "recipients"},
        {"method": "smtp", "server": "nowhere"},
        {"method": "vrfy", "server": "127.0.0.1:25"},
    ],
)
async def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValidationError):
        PluginBench(RecipientVerification, {"destinations": [{"domains": ["*"]} | wrong]})
