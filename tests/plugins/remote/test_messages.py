"""Contexts and results arrive on the other side as they were."""

import math

import pytest

from elemta.mail import outcome
from elemta.mail.address import Address
from elemta.mail.errors import PluginError
from elemta.mail.ids import QueueId
from elemta.mail.message import Facts, Message, Recipient, State
from elemta.mail.reply import Reply
from elemta.plugins import contexts as ctx
from elemta.plugins import edits as ed
from elemta.plugins.headers import Headers
from elemta.plugins.hooks import HOOKS
from elemta.plugins.remote.answers import MAX_ANSWER, AnswerError, from_answer, to_answer
from elemta.plugins.remote.calls import from_call, to_call
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.result import Action, Result

SENDER = Address("an odd one", "example.test")
RECIPIENTS = [Address("b", "example.test"), Address("ü", "[192.0.2.1]")]


def session():
    info = ctx.SessionInfo("s1", "192.0.2.9", "192.0.2.1:25", "mta", is_trusted=True)
    info.helo, info.protocol, info.tls_version = "client.example.test", "ESMTP", "TLSv1.3"
    info.tls_cipher, info.username = "TLS_AES_256_GCM_SHA384", "eve"
    info.metadata["score"] = "3"
    return info


def server(hook):
    return (hook, "mx.example.test", "1.2", 3)


def envelope(hook):
    return (hook, session(), SENDER, RECIPIENTS)


ARGUMENTS = {
    ctx.ServerContext: server,
    ctx.ConfigContext: lambda hook: (*server(hook), ["queue.max_age"]),
    ctx.ConnectionContext: lambda hook: (hook, session()),
    ctx.CommandContext: lambda hook: (hook, session(), b"NOOP \xff x"),
    ctx.HelloContext: lambda hook: (hook, session(), "client", "EHLO"),
    ctx.AuthContext: lambda hook: (hook, session(), "PLAIN", "eve", "secret", False),
    ctx.EnvelopeContext: envelope,
    ctx.RecipientContext: lambda hook: (*envelope(hook), RECIPIENTS[0], True),
    ctx.MessageContext: lambda hook: (
        *envelope(hook),
        QueueId("q1"),
        Headers(b"A: b\r\n\r\n"),
        99,
        None,
    ),
    ctx.SecurityContext: lambda hook: (hook, "early_talk", "too much", "s1", "192.0.2.9"),
}


def queued(hook):
    return (hook, QueueId("q1"), None, RECIPIENTS, 17, State.DEFERRED, "s1", {"a": "b"})


def attempted(hook):
    message = Message(QueueId("q1"), SENDER, 17, 0.0, facts=Facts(session_id="s1", released=("a",)))
    recipients = [
        Recipient(number, address, attempts=2) for number, address in enumerate(RECIPIENTS)
    ]
    if HOOKS[hook].context is ctx.AttemptContext:
        return (hook, message, recipients, "mx:example.test")
    if HOOKS[hook].context is ctx.DeliveryContext:
        return (hook, message, recipients, "mx:example.test", Headers(b"A: b\r\n\r\n"), None)
    what = outcome.Outcome(outcome.Result.DEFERRED, Reply(450, "no", "4.2.1"), remote="mx1")
    return (hook, message, recipients[0], "mx:example.test", State.DEFERRED, what, 12.5)


def make(hook):
    """A context of the kind that a hook has."""
    kind = HOOKS[hook].context
    arguments = attempted if issubclass(kind, ctx.AttemptContext) else queued
    return kind(*ARGUMENTS.get(kind, arguments)(hook))


def told(context):
    """All that a context says."""
    slots = {name for kind in type(context).__mro__ for name in getattr(kind, "__slots__", ())}
    said = {name: getattr(context, name) for name in slots - {"tools", "_content"}}
    if "session" in said:
        said["session"] = {
            name: getattr(said["session"], name) for name in ctx.SessionInfo.__slots__
        }
    if "recipients" in said:
        said["recipients"] = list(said["recipients"])
    if "headers" in said:
        said["headers"] = said["headers"].raw
    return said


@pytest.mark.parametrize("hook", HOOKS)
def test_a_context_arrives_as_it_was(hook):
    context = make(hook)
    context.metadata["left"] = "here"
    call = to_call(context, 7, 1.5)
    arrived = from_call(pb.Call.FromString(call.SerializeToString()), None)
    assert (call.id, call.timeout_ms) == (7, 1500)
    assert type(arrived) is type(context)
    assert told(arrived) == told(context)


def test_an_unknown_answer_of_the_password_check_stays_unknown():
    context = ctx.AuthContext("on_auth_start", session(), "PLAIN", "eve", "secret")
    assert from_call(to_call(context, 1, 1), None).authenticated is None


RESULTS = (
    Result.reject("No", code=554, enhanced="5.3.0", note="why"),
    Result.defer(note="later"),
    Result.discard(note="gone"),
    Result.accept(),
    Result.quarantine(note="odd"),
    Result.retry_after(30),
    Result.retry_after(0),
    Result.silence(note="hush"),
    Result.under("strict", note="chosen"),
    Result.modify(
        ed.AddHeader("X-A", "ü"),
        ed.InsertHeader("X-B", "b", 3),
        ed.ReplaceHeader("X-C", "c"),
        ed.RemoveHeader("X-D", 2),
        ed.RenameHeader("X-E", "X-Old-E"),
        ed.ReplaceBody(b"new\r\n"),
        ed.AddRecipient("a@example.test"),
        ed.RemoveRecipient("b@example.test"),
        ed.ChangeSender(""),
        ed.SettleRecipient.quarantine("q@example.test", note="odd"),
        ed.SettleRecipient.redirect("r@example.test", "s@example.test"),
        ed.SettleRecipient.reject("n@example.test", "Not this one", note="none"),
        ed.SettleRecipient.discard("d@example.test"),
        note="changed",
    ),
)


@pytest.mark.parametrize("result", RESULTS)
def test_a_result_arrives_as_it_was(result):
    answer = to_answer(1, result, {}, {})
    assert from_answer(pb.Answer.FromString(answer.SerializeToString())) == result


def test_no_result_stays_none():
    assert from_answer(to_answer(1, None, {}, {})) is None


def test_only_changed_metadata_travels():
    answer = to_answer(1, None, {"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    assert dict(answer.metadata) == {"b": "3", "c": "4"}


FIELD = pb.Edit.Field
NONSENSE = (
    pb.Answer(action=77),
    pb.Answer(action="REJECT", code=250),
    pb.Answer(action="REJECT", code=450),
    pb.Answer(action="DEFER", code=550),
    pb.Answer(action="REJECT", enhanced="4.7.1"),
    pb.Answer(action="REJECT", enhanced="5.7.1\r\n250 Ok"),
    pb.Answer(delay=-1),
    pb.Answer(delay=math.nan),
    pb.Answer(edits=[pb.Edit()]),
    pb.Answer(edits=[pb.Edit(add_header=FIELD(name="X", value="a\r\nBcc: b"))]),
    pb.Answer(edits=[pb.Edit(add_header=FIELD(name="X: y", value="a"))]),
    pb.Answer(edits=[pb.Edit(remove_header=FIELD(name="X\n"))]),
    pb.Answer(edits=[pb.Edit(replace_body=b"a\n")]),
    pb.Answer(edits=[pb.Edit(add_recipient="nobody")]),
    pb.Answer(edits=[pb.Edit(change_sender="<>")]),
    pb.Answer(edits=[pb.Edit(add_recipient="a@example.test")] * 1001),
    pb.Answer(note="x" * MAX_ANSWER),
)


@pytest.mark.parametrize("answer", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_an_error(answer):
    with pytest.raises(AnswerError):
        from_answer(answer)


def test_a_plugin_may_say_that_it_has_failed():
    with pytest.raises(PluginError, match="no disk") as caught:
        from_answer(pb.Answer(action="ACCEPT", error="no\ndisk"))
    assert not isinstance(caught.value, AnswerError)


def test_text_for_the_peer_cannot_break_the_dialogue():
    result = from_answer(pb.Answer(action="REJECT", text="no\r\n250 Ok\x1b"))
    assert result.action is Action.REJECT
    assert result.reply.encode().count(b"\r\n") == 1


def test_a_long_body_is_no_nonsense():
    body = b"x" * MAX_ANSWER + b"\r\n"
    result = from_answer(pb.Answer(edits=[pb.Edit(replace_body=body)]))
    assert result.edits == (ed.ReplaceBody(body),)
