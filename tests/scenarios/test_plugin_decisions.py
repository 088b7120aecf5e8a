"""What each action does at each hook of the running server, and who is asked after it."""

from dataclasses import dataclass, field

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.puppet import Puppet

COMMANDS = ("on_command", "on_command_validated")
SESSION = ("on_connect", *COMMANDS, "on_helo", "on_mail_from", "on_rcpt_to")
MESSAGE = ("on_headers", "on_data", "on_validated", "on_filter", "on_enqueue")
HOOKS = (*SESSION, *MESSAGE, "on_pre_delivery")
ACTIONS = ("reject", "defer", "discard", "quarantine", "accept", "nothing")
LAST = frozenset({"reject", "defer", "discard", "accept"})  # nobody is asked after these
REPLIES = {"reject": "550 5.7.1 No", "defer": "451 4.7.1 Later"}
WORDS = {"reject": ["reject", "No"], "defer": ["defer", "Later"]}
MAIL = b"Subject: hello\r\n\r\nhello\r\n"


@dataclass
class Call:
    """A client whose whole session is the same but for what one hook knows it by."""

    hook: str
    action: str
    local: str = ""
    source: str = "127.0.0.1"
    name: str = "client.test"
    line: str = "NOOP"
    sender: str = "a@b.test"
    recipient: str = field(init=False)

    def __post_init__(self) -> None:
        mark = f"{self.action}-{self.hook.replace('_', '-')}"
        self.local = self.local or mark
        self.recipient = f"{self.local}@example.test"
        if self.hook == "on_connect":
            self.source = f"127.0.1.{1 + ACTIONS.index(self.action)}"
        elif self.hook in COMMANDS:
            self.line = f"NOOP {mark}"
        elif self.hook == "on_helo":
            self.name = f"{mark}.test"
        elif self.hook != "on_rcpt_to":
            self.sender = f"{mark}@b.test"

    @property
    def known_by(self) -> str:
        if self.hook == "on_connect":
            return self.source
        if self.hook in COMMANDS:
            return self.line
        return {"on_helo": self.name, "on_rcpt_to": self.recipient}.get(self.hook, self.sender)


CALLS = [Call(hook, action) for hook in HOOKS for action in ACTIONS]


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    """One server for all; the puppet decides, the witness after it writes down what it is asked."""
    folder = tmp_path_factory.mktemp("decisions")
    answers = {
        f"{call.hook}:{call.known_by}": WORDS.get(call.action, [call.action])
        for call in CALLS
        if call.action != "nothing"
    }
    puppet = Puppet(folder, answers)
    witness = Puppet(folder, {"on_data": ["header", "X-Witness", "yes"]}, name="witness")
    rest = MAILDIR + puppet.config + witness.table
    with running(folder / "server", rest=rest) as elemta:
        yield elemta, puppet, witness
        assert elemta.events("plugin_error") == elemta.events("internal_error") == []


def talk(elemta: Elemta, call: Call) -> dict[str, str]:
    """The replies of a session, up to the first that refuses; "QUIT" is asked whatever came."""
    replies = {}
    with Dialogue(elemta.port, source=call.source) as client:
        replies["banner"] = client.banner
        if not client.banner.startswith("220"):
            assert client.line() == ""  # closed
            return replies
        steps = {
            "helo": f"EHLO {call.name}",
            "mail": f"MAIL FROM:<{call.sender}>",
            "noop": call.line,
            "rcpt": f"RCPT TO:<{call.recipient}>",
            "data": "DATA",
        }
        for step, line in steps.items():
            replies[step] = client.say(line)
            if replies[step][:1] not in {"2", "3"}:
                break
        else:
            client.send(MAIL + b".\r\n")
            replies["end"] = client.reply()
        assert client.say("QUIT").startswith("221")
    return replies


def asked(puppet: Puppet, session_id: str, call: Call) -> int:
    """How often it was asked in the hook of a call."""
    hits = [each for each in puppet.calls(call.hook) if session_of(each) == session_id]
    return sum(call.hook not in COMMANDS or each["line"] == call.line for each in hits)


def session_of(call: dict) -> str:
    return call["session_id"] if "session_id" in call else call["session"]["session_id"]


def states(elemta: Elemta, queue_id: str) -> list[str]:
    """The states of a message's recipients."""
    (message,) = elemta.queued("--id", queue_id) or [{}]
    return [each["state"] for each in message.get("recipients", [])]


STEPS = {"on_connect": "banner", "on_helo": "helo", "on_mail_from": "mail", "on_rcpt_to": "rcpt"}
STEPS |= dict.fromkeys(COMMANDS, "noop") | dict.fromkeys(MESSAGE, "end")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.hook}-{call.action}")
def test_an_action_does_what_it_says(post, call):
    elemta, puppet, witness = post
    replies = talk(elemta, call)
    session_id = puppet.calls("on_connect")[-1]["session"]["session_id"]
    step = STEPS.get(call.hook)
    if step is not None and call.action in REPLIES:
        expected = REPLIES[call.action]
        if call.hook == "on_connect":
            expected = {"reject": "554 5.7.1 No", "defer": "421 4.7.1 Later"}[call.action]
        assert list(replies.items())[-1] == (step, expected)
        blamed = elemta.wait_event("message_rejected", session_id=session_id)
        assert [(each["plugin"], each["reason"]) for each in blamed] == [
            ("puppet", "puppet says so")
        ]
    else:
        assert replies["end"].startswith("250 2.0.0 Ok: queued as "), replies
        check_queue(elemta, call, replies["end"].rpartition(" ")[2])
    assert asked(puppet, session_id, call) == 1
    assert asked(witness, session_id, call) == (call.action not in LAST)


KINDS = {
    "reject": "message_bounced",
    "defer": "message_deferred",
    "discard": "message_discarded",
    "quarantine": "message_quarantined",
}


def check_queue(elemta: Elemta, call: Call, queue_id: str) -> None:
    """What has become of a message that was taken."""
    if call.action in {"accept", "nothing"}:
        (content,) = elemta.wait_mail(call.local)
        assert (b"\r\nX-Witness: yes\r\n" in content) == (
            (call.hook, call.action) != ("on_data", "accept")
        )
        return
    event = elemta.wait_event(KINDS[call.action], queue_id=queue_id)[0]
    if (call.hook, call.action) != ("on_rcpt_to", "discard"):
        assert (event["plugin"], event["reason"]) == ("puppet", "puppet says so")
    left = {"defer": ["deferred"], "quarantine": ["quarantine"]}.get(call.action, [])
    assert states(elemta, queue_id) == left
    assert elemta.mailbox(call.local) == []


@pytest.mark.parametrize("action", ["discard", "quarantine"])
@pytest.mark.parametrize("hook", SESSION)
def test_how_long_a_mark_holds(post, hook, action):
    """Said before MAIL, for the session; said later, for that message."""
    elemta, _, _ = post
    local = f"next-{action}-{hook.replace('_', '-')}"
    call = Call(hook, action, local=f"{local}-1") if hook != "on_rcpt_to" else Call(hook, action)
    with Dialogue(elemta.port, source=call.source) as client:
        client.say(f"EHLO {call.name}")
        client.say(f"MAIL FROM:<{call.sender}>")
        client.say(call.line)
        client.say(f"RCPT TO:<{call.recipient}>")
        client.say("DATA")
        client.send(MAIL + b".\r\n")
        first = client.reply().rpartition(" ")[2]
        assert client.deliver(MAIL, "a@b.test", f"{local}@example.test").startswith("250")
        assert client.say("RSET").startswith("250")
    with Dialogue(elemta.port) as client:
        client.hello()
        assert client.deliver(MAIL, "a@b.test", f"{local}-3@example.test").startswith("250")
    elemta.wait_event(KINDS[action], queue_id=first)
    elemta.wait_mail(f"{local}-3")
    if hook in {"on_connect", "on_helo"}:
        assert elemta.mailbox(local) == []
    else:
        elemta.wait_mail(local)


@pytest.mark.parametrize("action", ["discard", "quarantine"])
@pytest.mark.parametrize("hook", COMMANDS)
def test_a_mark_before_mail_holds_for_the_session(post, hook, action):
    elemta, _, _ = post
    call = Call(hook, action)
    local = f"early-{call.local}"
    with Dialogue(elemta.port) as client:
        client.hello()
        assert client.say(call.line).startswith("250")
        replies = [client.deliver(MAIL, "a@b.test", f"{local}@example.test") for _ in range(2)]
    for reply in replies:
        queue_id = reply.rpartition(" ")[2]
        elemta.wait_event(KINDS[action], queue_id=queue_id)
        assert states(elemta, queue_id) == ["quarantine"] * (action == "quarantine")
    assert elemta.mailbox(local) == []
