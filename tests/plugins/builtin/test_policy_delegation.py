"""Policy servers: what they are asked, and what comes of each of their answers."""

import asyncio

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from servers.certificates import Authority
from servers.policy import policy_puppet
from servers.process import free_port

from elemta.plugins import Action, AddRecipient, InsertHeader, RemoveRecipient
from elemta.plugins.builtin.policy_delegation import PolicyDelegation
from elemta.testing import PluginBench

CONTENT = b"From: a@example.test\r\n\r\nHello\r\n"
STATES = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE"]


def server(port, **settings):
    return {"address": f"inet:127.0.0.1:{port}", "name": "puppet"} | settings


def bench(*servers, **options):
    return PluginBench(PolicyDelegation, {"servers": list(servers)}, **options)


async def stages(it):
    """The answers at connect, EHLO, MAIL, RCPT, DATA and at the end."""
    found = [await it.connect("192.0.2.7"), await it.helo("client.example.org")]
    await it.run("on_command_validated", line=b"MAIL FROM:<s@example.org> SIZE=1234")
    found += [await it.mail_from("s@example.org"), await it.rcpt_to("r@example.test")]
    return [*found, await it.headers(CONTENT), await it.filter(CONTENT)]


async def test_what_it_is_asked_about_a_recipient():
    async with policy_puppet() as policy, bench(server(policy.port)) as it:
        assert all(each.action is Action.CONTINUE for each in await stages(it))
        await it.rcpt_to("r2@example.test")
        await it.mail_from("")
        await it.rcpt_to("r@example.test")
    first, second, third = policy.asked
    wanted = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": "192.0.2.7",
        "client_name": "unknown",
        "helo_name": "client.example.org",
        "sender": "s@example.org",
        "recipient": "r@example.test",
        "recipient_count": "0",
        "queue_id": "",
        "size": "1234",
        "sasl_username": "",
        "encryption_protocol": "",
        "server_address": "192.0.2.25",
        "server_port": "25",
        "client_port": "0",
        "ccert_fingerprint": "",
    }
    assert first | wanted == first
    assert next(iter(first)) == "request"
    assert {"etrn_domain", "stress", "ccert_pubkey_fingerprint", "tls_sni"} <= first.keys()
    assert first["instance"] == second["instance"] != third["instance"]
    assert third["sender"] == ""
    assert policy.connections == 1


async def test_what_it_is_asked_about_the_connection(tmp_path):
    shown = Authority(tmp_path).issue("client.example.org")
    async with policy_puppet() as policy, bench(server(policy.port)) as it:
        for certificate in (shown.der, b"nonsense", b"x" * 100_000):
            it.session.client_port, it.session.client_certificate = 54321, certificate
            await it.mail_from("s@example.org")
            await it.rcpt_to("r@example.test")
    known, *unknown = policy.asked
    digest = shown.certificate.fingerprint(SHA256()).hex(":").upper()
    assert (known["client_port"], known["ccert_fingerprint"]) == ("54321", digest)
    assert len(known["ccert_pubkey_fingerprint"]) == 95
    for each in unknown:
        assert each["ccert_fingerprint"] == each["ccert_pubkey_fingerprint"] == ""


async def test_what_it_is_asked_at_each_moment():
    settings = {"states": STATES, "policy_context": "a=b\nrequest=x"}
    async with policy_puppet() as policy, bench(server(policy.port, **settings)) as it:
        await stages(it)
        await it.helo("x", "HELO")
    assert [each["protocol_state"] for each in policy.asked] == [*STATES, "HELO"]
    connect, hello, _, _, data, end = policy.asked[:6]
    assert (connect["helo_name"], connect["sender"]) == ("", "")
    assert hello["helo_name"] == "client.example.org"
    assert (data["recipient"], data["recipient_count"]) == ("r@example.test", "1")
    assert (end["queue_id"], end["size"]) == ("01TEST", str(len(CONTENT)))
    assert all(each["policy_context"] == "a=b?request=x" for each in policy.asked)
    assert all(each["request"] == "smtpd_access_policy" for each in policy.asked)


async def test_who_has_logged_in():
    async with policy_puppet() as policy, bench(server(policy.port)) as it:
        await it.connect("2001:db8::1", server="[2001:db8::25]:587", tls_version="TLSv1.3")
        it.session.tls_cipher = "ECDHE-RSA-AES128-GCM-SHA256"
        await it.auth("ann@example.test", mechanism="PLAIN")
        await it.mail_from()
        await it.rcpt_to()
    (asked,) = policy.asked
    assert (asked["sasl_username"], asked["sasl_method"]) == ("ann@example.test", "PLAIN")
    assert (asked["server_address"], asked["server_port"]) == ("2001:db8::25", "587")
    assert asked["encryption_protocol"] == "TLSv1.3"
    assert asked["encryption_cipher"] == "ECDHE-RSA-AES128-GCM-SHA256"
    assert asked["encryption_keysize"] == "128"


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("REJECT", "554 5.7.1 Access denied"),
        ("reject not you", "554 5.7.1 not you"),
        ("REJECT 5.1.8 not you", "554 5.1.8 not you"),
        ("DEFER later", "450 4.7.1 later"),
        ("DEFER_IF_PERMIT Greylisted, see http://x", "450 4.7.1 Greylisted, see http://x"),
        ("550 5.7.23 SPF", "550 5.7.23 SPF"),
        ("450 4.7.1 soon", "450 4.7.1 soon"),
        ("421", "421 4.7.1 Try again later"),
        ("REJECT a\tb\x1b", "554 5.7.1 a b"),
        ("FILTER smtp:[x]", "451 4.3.5 Server configuration problem"),
        ("NONSENSE", "451 4.3.5 Server configuration problem"),
        ("", "451 4.3.5 Server configuration problem"),
        ("PREPEND no field", "451 4.3.5 Server configuration problem"),
        ("PREPEND X Y: y", "451 4.3.5 Server configuration problem"),
        ("REDIRECT nobody", "451 4.3.5 Server configuration problem"),
        ("BCC a b@c", "451 4.3.5 Server configuration problem"),
    ],
)
async def test_refusals(action, reply):
    async with policy_puppet(action) as policy, bench(server(policy.port)) as it:
        await it.mail_from()
        answer = await it.rcpt_to()
        assert (str(answer.reply).rstrip(), answer.error) == (reply, "")
        assert answer.note.startswith("policy server puppet")


@pytest.mark.parametrize("action", ["OK", "ok", "DUNNO", "permit", "200", "DEFER_IF_REJECT x"])
async def test_nothing_against_it(action):
    async with policy_puppet(action) as policy, bench(server(policy.port)) as it:
        await it.mail_from()
        assert (await it.rcpt_to()).action is Action.CONTINUE
        # a policy server does not open a relay
        assert (await it.rcpt_to(is_relaying=True)).action is Action.CONTINUE
        assert it.count("answers", server="puppet", result="continue") == 2


@pytest.mark.parametrize("action", ["WARN look at this", "INFO look at this"])
async def test_a_warning(action):
    async with policy_puppet(action) as policy, bench(server(policy.port)) as it:
        await it.mail_from()
        assert (await it.rcpt_to()).action is Action.CONTINUE
        (line,) = [text for _, text in it.log]
        assert "look at this" in line
        assert "recipient=recipient@example.test" in line


@pytest.mark.parametrize(
    ("action", "edits"),
    [
        ("PREPEND X-Policy: seen", (InsertHeader("X-Policy", "seen"),)),
        ("BCC copy@example.test", (AddRecipient("copy@example.test"),)),
        (
            "REDIRECT <other@example.test>",
            (
                RemoveRecipient("a@example.test"),
                RemoveRecipient("b@example.test"),
                AddRecipient("other@example.test"),
            ),
        ),
    ],
)
async def test_what_is_done_with_the_message_later(action, edits):
    async with policy_puppet(action) as policy, bench(server(policy.port)) as it:
        await it.mail_from()
        for recipient in ("a@example.test", "b@example.test"):
            assert (await it.rcpt_to(recipient)).action is Action.CONTINUE
        assert (await it.filter(CONTENT)).edits == edits
        await it.mail_from()
        assert (await it.filter(CONTENT)).edits == ()


@pytest.mark.parametrize("state", STATES)
async def test_holding(state):
    async with (
        policy_puppet("HOLD odd") as policy,
        bench(server(policy.port, states=[state])) as it,
    ):
        found = (await stages(it))[STAGES_AT[state]]
        assert (found.action, found.note) == (Action.QUARANTINE, "policy server puppet: odd")


STAGES_AT = {state: at for at, state in enumerate(STATES)}


@pytest.mark.parametrize("state", STATES)
async def test_discarding(state):
    async with (
        policy_puppet("DISCARD") as policy,
        bench(server(policy.port, states=[state])) as it,
    ):
        found = await stages(it)
        at = STAGES_AT["END-OF-MESSAGE" if state == "RCPT" else state]
        assert found[at].action is Action.DISCARD
        if state == "RCPT":  # the recipient alone is not thrown away
            assert found[3].action is Action.CONTINUE


async def test_at_the_end_all_of_it_together():
    def say(question):
        if question["protocol_state"] == "RCPT":
            return b"action=PREPEND X-A: b\n\n"
        return b"action=HOLD\n\n"

    async with (
        policy_puppet(say) as policy,
        bench(server(policy.port, states=["RCPT", "END-OF-MESSAGE"])) as it,
    ):
        found = (await stages(it))[-1]
        assert (found.action, found.edits) == (Action.QUARANTINE, (InsertHeader("X-A", "b"),))


async def test_nothing_comes_past_where_it_was_not_told_of_the_sender():
    async with policy_puppet() as policy, bench(server(policy.port)) as it:
        for answer in (await it.rcpt_to(), await it.filter(CONTENT)):
            assert answer.action is Action.DEFER
            assert "not told of the sender" in answer.error


async def test_wishes_have_an_end():
    def say(question):
        return f"action=BCC {question['recipient']}\n\n".encode()

    async with policy_puppet(say) as policy, bench(server(policy.port)) as it:
        await it.mail_from()
        answers = [await it.rcpt_to(f"r{number}@example.test") for number in range(102)]
        assert [each.is_refused for each in answers] == [False] * 100 + [True] * 2


async def test_several_in_order():
    async with policy_puppet("DUNNO") as first, policy_puppet("REJECT no") as second:
        servers = (server(first.port, name="a"), server(second.port, name="b"))
        async with bench(*servers) as it:
            await it.mail_from()
            answer = await it.rcpt_to()
            assert answer.note == "policy server b"
            second.say = first.say
            first.say = lambda question: b"action=DEFER\n\n"
            assert (await it.rcpt_to()).note == "policy server a"
    assert (len(first.asked), len(second.asked)) == (2, 1)


@pytest.mark.parametrize(
    "said", [None, b"nothing\n\n", b"action", b"x" * 20_000, b"\n\n", b"reason=x\n\n", b"\xff\n\n"]
)
async def test_what_nobody_should_say(said):
    def say(question):
        return said

    settings = {"timeout": 0.1, "tries": 2}
    async with policy_puppet(say) as policy, bench(server(policy.port, **settings)) as it:
        await it.mail_from()
        answer = await it.rcpt_to()
        assert (answer.reply.code, answer.error) == (451, "")
        assert it.count("failures", server="puppet") == 1
        assert len(policy.asked) <= 2


@pytest.mark.parametrize(
    ("on_failure", "action"),
    [
        ("defer", Action.DEFER),
        ("reject", Action.REJECT),
        ("continue", Action.CONTINUE),
        ("quarantine", Action.QUARANTINE),
    ],
)
async def test_what_is_done_without_it(on_failure, action):
    async with bench(server(free_port(), on_failure=on_failure)) as it:
        await it.mail_from()
        assert (await it.rcpt_to()).action is action
        assert it.session.message.notes["policy-delegation.failed"] == "puppet"


async def test_it_is_left_alone_for_a_while():
    settings = {"breaker_failures": 2, "breaker_pause": 30, "on_failure": "continue", "tries": 1}
    port = free_port()
    async with bench(server(port, **settings)) as it:
        await it.mail_from()
        for _ in range(3):
            await it.rcpt_to()
        assert "left alone" in it.log[-1][1]
        async with policy_puppet("REJECT", port) as policy:
            assert not (await it.rcpt_to()).is_refused
            it.clock.advance(61)
            assert (await it.rcpt_to()).is_refused
            assert (await it.rcpt_to()).is_refused
            assert len(policy.asked) == 2
            await it.close()


async def test_a_connection_that_the_server_has_closed_is_no_failure():
    def say(question):
        return None if len(policy.asked) == 2 else b"action=DUNNO\n\n"

    async with policy_puppet(say) as policy, bench(server(policy.port, tries=1)) as it:
        await it.mail_from()
        for _ in range(2):
            assert not (await it.rcpt_to()).is_refused
        assert it.count("failures", server="puppet") == 0
    assert (policy.connections, len(policy.asked)) == (2, 3)


@pytest.mark.parametrize(("most", "connections"), [(1, 4), (2, 2), (0, 1)])
async def test_questions_on_one_connection(most, connections):
    async with policy_puppet() as policy, bench(server(policy.port, max_requests=most)) as it:
        await it.mail_from()
        for _ in range(4):
            await it.rcpt_to()
    assert policy.connections == connections


async def test_connections_have_a_limit():
    async with policy_puppet() as policy, bench(server(policy.port, max_connections=3)) as it:
        await it.mail_from()
        answers = await asyncio.gather(*(it.run("on_rcpt_to") for _ in range(20)))
        assert not any(each.is_refused for each in answers)
    assert len(policy.asked) == 20
    assert policy.connections <= 3


@pytest.mark.parametrize(
    "settings",
    [
        {"servers": [{"address": "nowhere"}]},
        {"servers": [{"address": "a:1"}, {"address": "a:1"}]},
        {"servers": [{"address": "a:1", "states": ["ETRN"]}]},
        {"servers": [{"address": "a:1", "states": []}]},
        {"servers": [{"address": "a:1", "name": "a b"}]},
    ],
)
def test_settings_that_are_none(settings):
    with pytest.raises(ValueError):  # noqa: PT011 - of pydantic
        PluginBench(PolicyDelegation, settings)


async def test_more_than_was_asked_for_answers_no_other_question():
    """What comes twice is not taken for the answer to what is asked next."""

    def say(question):
        action = "OK" if question["recipient"] == "r1@example.test" else "REJECT"
        return f"action={action}\n\n".encode() * 2

    async with policy_puppet(say) as policy, bench(server(policy.port)) as it:
        await it.mail_from()
        assert (await it.rcpt_to("r1@example.test")).action is Action.CONTINUE
        assert (await it.rcpt_to("r2@example.test")).action is Action.REJECT
        assert policy.connections == 2


async def test_connections_of_a_rush_do_not_stay_for_ever():
    async with policy_puppet() as policy, bench(server(policy.port)) as it:
        await it.mail_from()
        await asyncio.gather(*(it.rcpt_to(f"r{n}@example.test") for n in range(5)))
        assert policy.open == 5
        for _ in range(2):  # of the five, one is enough
            it.clock.advance(40)
            await it.rcpt_to("r@example.test")
        assert policy.connections == 5
        async with asyncio.timeout(25):
            while policy.open > 1:
                await asyncio.sleep(0)
