"""Which clients are checked, and how one of them does: no sockets, a clock that stands still."""

from ipaddress import ip_network

import pytest

from elemta.mail import events as ev
from elemta.mail.reply import Reply
from elemta.server.pregreet import (
    DROPPED,
    REFUSED,
    Action,
    Check,
    Passes,
    PregreetSettings,
    Register,
    Screen,
    find_breach,
)
from elemta.smtp import Limits, Offer, ServerMachine
from elemta.smtp import events as smtp
from elemta.testing.clock import FakeClock

EARLY, PIPELINING, BARE, OTHER = Check
CLIENT = "192.0.2.1"
KEEP = {EARLY: 10.0, PIPELINING: 20.0, BARE: 30.0, OTHER: 40.0}
ACTIONS = {
    EARLY: Action.ENFORCE,
    PIPELINING: Action.DROP,
    BARE: Action.IGNORE,
    OTHER: Action.ENFORCE,
}


class Site:
    def __init__(self):
        self.clock = FakeClock()
        self.passes = Passes(1000, is_shared=False)
        self.register = Register(self.passes, self.clock)
        self.events = []

    def screen(self, **changes):
        settings = PregreetSettings(**{"actions": ACTIONS, "keep": KEEP, **changes})
        return Screen(settings, self.register, "mta", self.events.append)

    def results(self):
        checked = [event for event in self.events if isinstance(event, ev.ClientChecked)]
        return [(event.check, event.result) for event in checked]


@pytest.fixture
def site():
    made = Site()
    yield made
    made.passes.close()


def test_who_has_passed_all_is_not_looked_at(site):
    screen = site.screen()
    assert screen.concerns(CLIENT)
    screening = screen.begin(CLIENT, "s1")
    assert screening.is_due(EARLY)
    screening.succeed(EARLY)
    assert screen.concerns(CLIENT)
    screening.succeed()
    assert not screen.concerns(CLIENT)
    assert screen.begin(CLIENT, "s2") is None
    assert site.results() == [
        ("early_talker", "passed"),
        ("bare_newline", "passed"),
        ("non_smtp_command", "passed"),
        ("pipelining", "passed"),
    ]
    site.clock.advance(10.1)
    again = screen.begin(CLIENT, "s3")
    assert [check for check in Check if again.is_due(check)] == [EARLY]


def test_checks_that_are_off_are_not_made(site):
    screen = site.screen(actions={**dict.fromkeys(Check, Action.OFF), BARE: Action.DROP})
    screening = screen.begin(CLIENT, "s1")
    assert screening.fail(EARLY, "x") is screening.fail(PIPELINING, "x") is Action.OFF
    assert screening.refusal is None
    screening.succeed()
    assert not screen.concerns(CLIENT)
    assert site.results() == [("bare_newline", "passed")]


def test_failures_lead_to_what_is_set(site):
    screening = site.screen().begin(CLIENT, "s1")
    assert screening.fail(BARE, "NOOP") is Action.IGNORE
    assert screening.refusal is None
    assert site.events == [ev.ClientChecked("s1", CLIENT, "mta", "bare_newline", "ignore", "NOOP")]
    assert screening.fail(EARLY, "EHLO x") is Action.ENFORCE
    assert screening.refusal is REFUSED[EARLY]
    assert screening.fail(PIPELINING, "DATA") is Action.DROP
    assert screening.refusal is REFUSED[EARLY], "the first one counts"
    assert screening.fail(PIPELINING, "DATA") is Action.OFF, "it is told once"
    attacks = [event.kind for event in site.events if isinstance(event, ev.SecurityEvent)]
    assert attacks == ["early_talk", "sync"]


def test_who_fails_passes_nothing_and_is_known_no_more(site):
    screen = site.screen()
    screening = screen.begin(CLIENT, "s1")
    screening.succeed(EARLY)
    screening.fail(PIPELINING, "EHLO")
    screening.succeed()
    assert screen.begin(CLIENT, "s2").is_due(EARLY)
    assert screen.begin(CLIENT, "s2").is_due(OTHER)


def test_a_failure_that_is_ignored_is_no_pass_but_spoils_no_other(site):
    screen = site.screen()
    screening = screen.begin(CLIENT, "s1")
    screening.succeed(EARLY)
    screening.fail(BARE, "NOOP")
    screening.succeed()
    again = screen.begin(CLIENT, "s2")
    assert [check for check in Check if again.is_due(check)] == [BARE]


def test_who_is_exempt(site):
    screen = site.screen(exempt=(ip_network("192.0.2.0/24"),), proxies=(ip_network("10.0.0.0/8"),))
    assert not screen.concerns(CLIENT)
    assert not screen.concerns("")
    assert screen.begin(CLIENT, "s1") is screen.begin("", "s1") is None
    assert screen.concerns("10.0.0.1"), "for those whom it speaks for"
    assert screen.begin("10.0.0.1", "s1") is None
    behind = screen.begin("198.51.100.1", "s1", is_greeted=True)
    assert not behind.is_due(EARLY)
    assert behind.is_due(PIPELINING)


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("192.0.2.1", "192.0.2.200", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_networks_are_one_client(site, first, second, is_one):
    screen = site.screen(ipv4_prefix=24)
    screen.begin(first, "s1").succeed()
    assert screen.concerns(second) is not is_one


def test_addresses_are_clients_of_their_own(site):
    screen = site.screen()
    screen.begin("192.0.2.1", "s1").succeed()
    assert screen.concerns("192.0.2.2")


def test_the_wait_is_shorter_under_load(site):
    screening = site.screen(wait=6.0, stressed_wait=1.5).begin(CLIENT, "s1")
    assert screening.wait(is_stressed=False) == 6.0
    assert screening.wait(is_stressed=True) == 1.5


def breaches(data: bytes, *, strict: bool = True, answer: int = 250):
    """What each command of a client shows."""
    machine = ServerMachine(Limits(strict_sync=strict), Offer())
    machine.receive(data)
    found = []
    while (event := machine.next_event()) is not None:
        found.append(find_breach(event, machine.line, is_unsynced=machine.is_unsynced))
        machine.is_unsynced = False
        if not isinstance(event, smtp.Body):
            is_go = isinstance(event, smtp.Data)
            machine.reply(
                event.reply
                if isinstance(event, smtp.Fault)
                else Reply(354 if is_go else answer, "x")
            )
    return found


GROUP = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n"


@pytest.mark.parametrize(
    ("data", "strict", "found"),
    [
        (b"EHLO x.test\r\n", True, [None]),
        (b"EHLO x.test\r\nNOOP\r\n", True, [PIPELINING]),
        (b"EHLO x.test\r\nNOOP\r\n", False, [PIPELINING, None]),
        (GROUP + b"DATA\r\n", True, [None, None, None]),
        (b"NOOP\n", True, [BARE]),
        (b"GET / HTTP/1.1\r\n", True, [OTHER]),
        (b"Subject: x\r\n", True, [OTHER]),
        (b"X-Mailer:y\r\n", True, [OTHER]),
        (b"FROBNICATE\r\n", True, [None]),
        (b"a b: c\r\n", True, [None]),
        (b":\r\n", True, [None]),
        (b"NOOP a: b\r\n", True, [None]),
    ],
)  # fmt: skip
def test_what_shows_that_a_client_is_no_mail_server(data, strict, found):
    assert breaches(data, strict=strict) == found


@pytest.mark.parametrize("policy", ["reject", "normalise"])
def test_content_with_bare_line_ends(policy):
    machine = ServerMachine(Limits(bare_newlines=policy), Offer())
    found = []
    for line in (b"EHLO x.test\r\n", GROUP, b"DATA\r\n", b"a\nb\r\n.\r\n"):
        machine.receive(line)
        while (event := machine.next_event()) is not None:
            found.append(find_breach(event, machine.line, is_unsynced=machine.is_unsynced))
            if not isinstance(event, smtp.Body):
                machine.reply(Reply(354 if isinstance(event, smtp.Data) else 250, "x"))
    assert found[-1] == (BARE if policy == "reject" else None)
    assert set(found[:-1]) == {None}


@pytest.mark.parametrize("replies", [REFUSED, DROPPED])
def test_replies_are_for_good_and_differ(replies):
    assert set(replies) == set(Check)
    assert len(set(replies.values())) == len(Check)
    assert all(each.is_permanent for each in replies.values())
