"""The bench on which plugins are tested."""

import inspect

import pydantic
import pytest
from testing.policies import Broken, Policy

from elemta.mail.address import parse_address
from elemta.mail.errors import PluginError
from elemta.mail.reply import Reply
from elemta.plugins import Action, AddHeader, Context, Metadata, Plugin, Result, Settings
from elemta.plugins.contexts import SessionInfo
from elemta.plugins.hooks import HOOKS
from elemta.testing import Answer, FakeClock, PluginBench, message
from elemta.testing.contexts import Scene


async def test_a_plugin_is_set_up_before_it_is_asked_and_closed_at_the_end():
    async with PluginBench(Policy) as bench:
        await bench.connect()
        assert bench.plugin.life == ["setup", "enable"]
    assert bench.plugin.life == ["setup", "enable", "disable", "close"]
    await bench.close()
    assert len(bench.plugin.life) == 4
    never_used = PluginBench(Policy)
    await never_used.close()
    assert not hasattr(never_used.plugin, "life")


async def test_what_it_says_and_counts_is_kept():
    bench = PluginBench(Policy)
    for ip in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        assert await bench.connect(ip) == Answer()
    assert bench.log[-1] == ("info", "192.0.2.2 connects")
    assert bench.count("connections", ip="192.0.2.1") == 2
    assert bench.count("connections", ip="192.0.2.9") == bench.count("never") == 0
    assert bench.observed("hour") == (3, 66)
    assert bench.observed("never") == (0, 0)


async def test_settings_are_judged_as_the_server_does():
    assert (await PluginBench(Policy, {"helo": "me.test"}).helo("me.test")).is_refused
    with pytest.raises(pydantic.ValidationError, match="recipient"):
        PluginBench(Policy, {"recipient": 3})


async def test_an_answer_has_all_that_the_plugin_said():
    answer = await PluginBench(Policy).helo("bad.example.test")
    assert answer == Answer(Action.REJECT, Reply(550, "Not you", "5.7.1"), note="bad name")
    assert answer.is_refused


async def test_the_session_goes_on_from_call_to_call():
    bench = PluginBench(Policy)
    await bench.helo("bad.example.test")
    assert bench.session.helo == ""
    await bench.helo("good.example.test", "HELO")
    assert (bench.session.helo, bench.session.protocol) == ("good.example.test", "SMTP")
    await bench.mail_from("a@b.test")
    answers = [await bench.rcpt_to(f"{n}@example.test") for n in range(4)]
    assert [answer.is_refused for answer in answers] == [False, False, True, True]
    await bench.mail_from("a@b.test")
    assert not (await bench.rcpt_to()).is_refused
    await bench.starttls()
    assert bench.session.tls_version == "TLSv1.3"
    await bench.connect(listener="lmtp", tls_version="TLSv1.2", is_trusted=True)
    session = bench.session
    assert (session.helo, session.listener, session.tls_version) == ("", "lmtp", "TLSv1.2")
    assert session.is_trusted


async def test_relaying_needs_a_vote():
    bench = PluginBench(Policy, {"recipients": 1})
    assert not (await bench.rcpt_to("x@else.test", is_relaying=True)).is_refused
    assert (
        await bench.rcpt_to("y@example.test")
    ).action is Action.CONTINUE  # the first was not kept
    await bench.auth("admin")
    assert (await bench.rcpt_to("x@else.test", is_relaying=True)).action is Action.ACCEPT


async def test_who_could_not_log_in_has_no_name():
    bench = PluginBench(Policy)
    await bench.auth("admin", authenticated=False)
    assert bench.session.username == ""
    await bench.auth_start("admin", "secret")
    assert bench.session.username == ""


async def test_time_stands_still_until_the_test_moves_it():
    clock = FakeClock()
    bench = PluginBench(Policy, clock=clock)
    answers = [await bench.mail_from("a@b.test") for _ in range(3)]
    assert [answer.action for answer in answers] == ["continue", "continue", "defer"]
    clock.advance(61)
    assert (await bench.mail_from("a@b.test")).action is Action.CONTINUE
    assert bench.clock is clock


async def test_messages_may_be_texts_or_octets():
    bench = PluginBench(Policy)
    answer = await bench.data("Subject: hello\n\nworld\n")
    assert answer.edits == (AddHeader("X-Subject", "hello"),)
    answer = await bench.data(message("this is spam"))
    assert (answer.action, answer.note) == (Action.QUARANTINE, "spam")
    assert answer.edits == (AddHeader("X-Spam", "yes"),)


async def test_outcomes():
    bench = PluginBench(Policy)
    assert (await bench.deferred("a@b.test", attempts=3)).delay == 180
    assert (await bench.bounced("a@b.test")).silent
    assert await bench.delivered("a@b.test") == Answer()


async def test_a_defect_is_told_and_makes_mail_wait():
    bench = PluginBench(Broken)
    answer = await bench.connect()
    assert answer.action is Action.DEFER
    assert answer.error.startswith("KeyError: 'oops' (policies.py:")
    answer = await PluginBench(Broken, on_error="continue").connect()
    assert (answer.action, bool(answer.error)) == (Action.CONTINUE, True)


async def test_a_shadow_has_no_effect():
    answer = await PluginBench(Policy, mode="shadow").helo("bad.example.test")
    assert answer == Answer(shadow="reject")


async def test_what_the_server_would_not_load_is_refused():
    class Misspelt(Plugin[Settings]):
        metadata = Metadata(name="misspelt")

        def on_rcptto(self, ctx):
            """There is no such hook."""

    with pytest.raises(PluginError, match="did you mean on_rcpt_to"):
        PluginBench(Misspelt)


async def test_what_there_is_not_cannot_be_asked():
    bench = PluginBench(Policy)
    with pytest.raises(ValueError, match="no hook on_tea"):
        await bench.run("on_tea")
    with pytest.raises(TypeError, match="ConnectionContext has no sugar"):
        await bench.run("on_connect", sugar=2)
    with pytest.raises(ValueError, match="no hook"):
        Scene(bench.session).build("on_tea")


def remembering() -> type[Plugin[Settings]]:
    """A plugin with all hooks, that remembers what it is asked."""

    def remember(self, ctx: Context) -> None:
        self.seen.append(ctx)

    hooks = dict.fromkeys(HOOKS, remember)
    body = {"metadata": Metadata(name="all"), "seen": [], **hooks}
    return type("All", (Plugin,), body)


@pytest.mark.parametrize("hook", HOOKS)
async def test_every_hook_gets_a_whole_context(hook):
    bench = PluginBench(remembering())
    assert await bench.run(hook) == Answer()
    (context,) = bench.plugin.seen
    assert type(context) is HOOKS[hook].context
    assert context.hook == hook
    assert context.clock is bench.clock
    for cls in type(context).__mro__:
        for name in getattr(cls, "__slots__", ()):
            assert hasattr(context, name), name


async def test_hooks_have_other_names_and_methods_of_the_bench():
    bench = PluginBench(remembering())
    await bench.run("OnRcptTo", recipient="a@b.test", sender="", recipients=["c@d.test"])
    (context,) = bench.plugin.seen
    assert context.recipient == parse_address("a@b.test")
    assert context.sender is None
    assert context.recipients == (parse_address("c@d.test"),)
    methods = {name for name, _ in inspect.getmembers(PluginBench, inspect.iscoroutinefunction)}
    for hook in ("disconnect", "command", "headers", "validated", "filter", "enqueue"):
        assert hook in methods
    await bench.command("NOOP now")
    await bench.disconnect()
    for call in (bench.headers, bench.validated, bench.filter, bench.enqueue):
        await call(message())
    await bench.security_event("early_talk", "x")
    hooks = [context.hook for context in bench.plugin.seen[1:]]
    assert hooks == [
        *("on_command", "on_disconnect", "on_headers", "on_validated"),
        *("on_filter", "on_enqueue", "on_security_event"),
    ]
    assert bench.plugin.seen[1].argument == "now"
    with pytest.raises(LookupError, match="not been received"):
        bench.plugin.seen[3].chunks()
    assert isinstance(bench.session, SessionInfo)


async def test_a_message_that_is_about_to_be_delivered_can_be_read():
    class Signer(Plugin[Settings]):
        metadata = Metadata(name="signer", version="1.0.0")

        async def on_pre_delivery(self, ctx):
            content = await ctx.read()
            assert len(content) == ctx.size
            seen = f"{ctx.headers.get('subject')} {ctx.attempts}"
            return Result.modify(AddHeader("X-Seen", seen))

    content = message("Hello.", subject="signed")
    answer = await PluginBench(Signer).pre_delivery(content, attempts=2)
    assert answer.edits == (AddHeader("X-Seen", "signed 2"),)


async def test_notes_go_with_the_message():
    class Scribe(Plugin[Settings]):
        metadata = Metadata(name="scribe", version="1.0.0")

        def on_mail_from(self, ctx):
            ctx.message.notes["sender"] = str(ctx.sender)

        def on_deferred(self, ctx):
            return Result.retry_after(len(ctx.message.notes.get("sender", "")))

    bench = PluginBench(Scribe)
    assert (await bench.deferred("b@c.test")).delay == 0
    await bench.mail_from("a@b.test")
    assert (await bench.deferred("b@c.test")).delay == 8
    assert (await bench.deferred("b@c.test", notes={"sender": "a"})).delay == 1
