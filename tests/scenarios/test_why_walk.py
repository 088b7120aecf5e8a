"""Every refusal of the running server leaves a record, which is found by what the client was told.

`scenarios.refusals` has a way to each rule of `elemta.server.rules`; a rule without one fails the
walk. That all replies have a rule, and that nothing is said to a client beside the journal, is
shown by tests/server/test_rules.py; tests/server/test_journal.py goes through the replies one by
one, and test_why.py through the hooks of plugins.
"""

import pytest
from scenarios.refusals import SCARCE, WALK, Site, walk_through
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.knot import run_knot
from servers.logins import add_user
from servers.process import free_port
from servers.puppet import Puppet
from servers.records import find

from elemta.observe.why import summarise
from elemta.server.rules import RULES

NO_WAY = {
    # No client can bring a defect about: if one could, it would be mended. What a session does
    # with one is in tests/server/test_journal.py (`test_a_defect_of_the_server`).
    "defect",
    # The name of replies without a name: tests/server/test_rules.py shows that there is none.
    "server",
}
REST = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[[auth.sources]]
type = "file"
[auth]
mechanisms = ["PLAIN"]
scram_iterations = 0
argon2 = {{ memory = "8MiB", passes = 1 }}
[smtp]
max_errors = 4
max_junk_commands = 5
max_received = 3
max_header_size = 1000
max_header_fields = 10
max_line = 1000
command_timeout = "5s"
[limits]
error_delay = 0
connections_per_address = 3
connections_per_network = 4
handshake_rate = "1/h"
message_rate = "3/h"
recipient_rate = "5/h"
auth_rate = "4/h"
error_rate = "8/h"
[limits.brake]
delay = 0
[[limits.overrides]]
kind = "lmtp"
connections = 1
[[limits.overrides]]
kind = "submission"
message_rate = "1000/h"
[submission]
missing_date = "reject"
[submission.soft]
messages_per_hour = 1
[submission.hard]
messages_per_hour = 2
"""
CLOSED = MAILDIR.replace("[[routes]]", "trusted_networks = []\n[[routes]]", 1)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("why")
    Authority(folder).issue("localhost", "mail.example.test")
    ports = {each: free_port() for each in ("submission", "lmtp", "proxied")}
    listeners = f"""
[[listeners]]
address = "127.0.0.1:{ports["submission"]}"
kind = "submission"
clear_auth = true
[[listeners]]
address = "127.0.0.1:{ports["lmtp"]}"
kind = "lmtp"
[[listeners]]
address = "127.0.0.1:{ports["proxied"]}"
kind = "mta"
proxy_protocol = ["127.0.0.3"]
"""
    limits = 'max_recipients = 2\nmax_message_size = "4kB"'
    options = {"rest": CLOSED + REST, "listeners": listeners, "workers": 2, "server": limits}
    with running(folder, **options) as server:
        ports["mta"] = server.port
        for login in ("ann", "dan", "eve"):
            add_user(server, login, "--sender", f"{login}@example.test")
        yield Site(server, ports)
        assert server.events("internal_error") == []


@pytest.fixture(scope="module")
def scarce(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scarce")
    ports = {each: free_port() for each in ("submission", "new")}
    listeners = f"""
pregreet = false
[[listeners]]
address = "127.0.0.1:{ports["submission"]}"
kind = "submission"
clear_auth = true
[[listeners]]
address = "127.0.0.1:{ports["new"]}"
kind = "mta"
"""
    home = folder / "server"
    home.mkdir()
    Authority(home).issue("localhost", "mail.example.test")
    answers = {
        "on_command:STARTTLS": ["async", "hang"],
        "on_rcpt_to:apart@example.test": ["quarantine"],
    }
    puppet = Puppet(folder, answers, timeout="3s", on_error="continue")
    with run_knot(folder, {"null.test": "@ MX 0 .\n"}) as (_, dns):
        rest = CLOSED + LACK.format(dns=dns) + puppet.config
        with running(home, rest=rest, listeners=listeners) as server:
            for login in ("ann", "dan"):
                add_user(server, login, "--sender", f"{login}@example.test")
            yield Site(server, ports | {"mta": server.port}, puppet)


LACK = """
[dns]
nameservers = ["127.0.0.1:{dns}"]
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[smtp]
refuse_null_mx_senders = true
split = "defer"
[pregreet]
enabled = true
wait = "300ms"
early_talker = "drop"
pipelining = "drop"
bare_newline = "drop"
non_smtp_command = "drop"
[[auth.sources]]
type = "file"
[auth]
mechanisms = ["PLAIN"]
scram_iterations = 0
argon2 = {{{{ memory = "8MiB", passes = 1 }}}}
[limits]
error_delay = 0
max_delayed = 0
message_rate = "5/h"
[limits.brake]
free_failures = 0
delay = "1s"
"""


@pytest.fixture(scope="module")
def walked(site):
    return site, walk_through(site, WALK)


@pytest.fixture(scope="module")
def walked_scarce(scarce):
    return scarce, walk_through(scarce, SCARCE)


@pytest.mark.parametrize("rule", [*WALK, *SCARCE])
def test_a_refusal_is_found_by_what_the_client_was_told(request, rule):
    site, words = request.getfixturevalue("walked" if rule in WALK else "walked_scarce")
    word = words[rule]
    if isinstance(word, Exception):
        raise word
    why = find(site.server, word, rule=rule)[0]
    assert why.ruling.outcome in {"reject", "defer"}
    assert why.who.address.startswith("127.")
    assert why.who.listener in {"mta", "submission", "lmtp"}
    assert summarise(why).endswith(f" because {RULES[rule]}.")


TOLD_OF = ("connection_refused", "auth_failed", "limit_reached", "security_event")


@pytest.mark.parametrize("name", TOLD_OF)
def test_events_of_refusals_name_their_record(walked, name):
    site, _ = walked
    events = site.server.events(name)
    if name == "limit_reached":  # of these the session tells, in `message_rejected`
        events = [each for each in events if not each["limit"].startswith("submission.")]
    assert len(events) > 1
    for each in events:
        why = find(site.server, each["why_id"])[0]
        assert why.who.address == each["client_ip"]
        assert each.get("session_id", "") in (why.who.session_id, *why.sessions)


def test_plugins_hear_of_limits_and_attacks(scarce):
    scarce.move()
    told = scarce.told(*["MAIL FROM:<a@b.test>", "RSET"] * 5, "MAIL FROM:<a@b.test>")
    [event] = scarce.server.wait_event("limit_reached", client_ip=f"{scarce.network}.1")
    assert (event["limit"], event["why_id"]) == ("message_rate", told)
    with scarce.client() as client:
        client.say("GET / HTTP/1.1")

    def heard() -> list[tuple[str, str]]:
        calls = scarce.puppet.calls("on_security_event")
        return [(each["kind"], each["detail"]) for each in calls if each["client_ip"] == client_ip]

    client_ip = f"{scarce.network}.1"
    scarce.server.wait_for(lambda: len(heard()) == 2, "both")
    limit, attack = heard()
    assert limit == ("limit_reached", "message_rate")
    assert attack[0] == "cross_protocol"


def test_the_walk_leaves_no_rule_out():
    walked = set(WALK) | set(SCARCE) | set(TROUBLE)
    assert walked | NO_WAY == set(RULES)
    assert not walked & NO_WAY


TROUBLE = ("queue.min_free_space", "limits.shedding", "shutdown")


def test_a_server_without_room(tmp_path):
    rest = CLOSED + '[queue]\nmin_free_space = "900TB"\n'
    with running(tmp_path, rest=rest) as server, Dialogue(server.port) as client:
        client.hello()
        assert client.envelope("a@b.test")[0].startswith("452 4.3.1")
        assert find(server, client.id, rule="queue.min_free_space")


def test_a_server_that_has_too_much_to_do_and_one_that_stops(tmp_path):
    rest = CLOSED + "[limits.shedding]\nmemory_limit = 0\n"
    with running(tmp_path, rest=rest) as server, Dialogue(server.port) as idle:
        idle.hello()
        server.reload("memory_limit = 0", 'memory_limit = "1MB"')
        server.wait_event("load_changed", after="shedding")
        with Dialogue(server.port) as client:
            assert client.banner.startswith("421 4.3.2")
            assert find(server, client.id, rule="limits.shedding")
        assert server.stop() == 0
        assert idle.reply().startswith("421 4.3.2")
        assert find(server, idle.id, rule="shutdown")
