"""`elemta check` and `elemta rules test`, where there are rules."""

import json

import pytest
from click.testing import CliRunner
from servers.process import free_port

from elemta.cli.main import cli

RULES = """
# [[rule]]
[[lists]]
name = "friends"
kind = "mail"
file = "friends.txt"

[[rule]]
name = "friends"
hook = "mail"
when = 'in_list("friends", sender)'
then = "accept"

[[rule]]
name = "others"
hook = "mail"
when = \"\"\"
  sender_domain.endsWith(".example") &&
  !trusted
\"\"\"
then = "reject"
"""
CASES = """
[[case]]
name = "a friend"
sender = "anna@a.example"
expect = "accept"
rule = "friends"

[[case]]
name = "a stranger"
sender = "otto@a.example"
expect = "reject"
rule = "others"
"""


class Place:
    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.rules, self.friends = folder / "rules.toml", folder / "friends.txt"
        self.cases = folder / "rules.policy.toml"
        self.rules.write_text(RULES)
        self.friends.write_text("anna@a.example\n")
        self.cases.write_text(CASES)
        self.more = ""

    def call(self, *arguments):
        config = self.folder / "elemta.toml"
        config.write_text(
            f'[server]\nstate_dir = "{self.folder / "var"}"\n[metrics]\nlisten = ""\n'
            f'[[listeners]]\naddress = "127.0.0.1:{self.port}"\n'
            f'[plugins]\nplugins = ["rules"]\n[plugins.rules]\nfiles = ["{self.rules}"]\n'
            + self.more
        )
        done = CliRunner().invoke(cli, [*arguments, "-c", str(config), "--json"])
        return done.exit_code, json.loads(done.stdout)

    def problems(self, *arguments):
        status, told = self.call(*(arguments or ("check",)))
        found = [
            (each["where"].removeprefix(f"{self.folder}/"), each["text"])
            for each in told["problems"]
            if "rules" in each["setting"]
        ]
        assert status == (1 if any(found) else 0)
        return found


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_all_is_well(place):
    assert place.problems() == []
    status, told = place.call("rules", "test")
    assert (status, told["rules"], told["lists"], told["cases"]) == (0, 2, 1, 2)


def test_expressions_that_are_wrong_are_told_with_file_and_line(place):
    place.rules.write_text(
        RULES.replace("!trusted", "!trustd").replace('in_list("friends"', 'in_list("fiends"')
    )
    friends, others = place.problems()
    assert friends == (
        "rules.toml:11",
        "rule friends: when: in_list: there is no list 'fiends': friends",
    )
    assert others == (
        "rules.toml:17",
        "rule others: when: there is no fact trustd; did you mean trusted?",
    )


def test_types(place):
    place.rules.write_text(RULES.replace("!trusted", "recipients == sender"))
    [(where, text)] = place.problems()
    assert where == "rules.toml:17"
    assert text == "rule others: when: ==: number and text cannot be compared"


def test_rules_in_the_configuration_itself(place):
    place.more = (
        '[[plugins.rules.rule]]\nname = "own"\nhook = "helo"\nwhen = "helo == 1"\nthen = "reject"\n'
    )
    [(where, text)] = place.problems()
    assert where == "elemta.toml:14"
    assert text.endswith("rule own: when: ==: text and number cannot be compared")


def test_lists(place):
    place.friends.write_text("anna@a.example\n\nnobody\n")
    [(where, text)] = place.problems()
    assert where == "friends.txt:3"
    place.friends.unlink()
    [(where, text)] = place.problems()
    assert where == "rules.toml:6"
    assert text.endswith("friends.txt: cannot be read: No such file or directory")


def test_cases_that_come_out_otherwise(place):
    place.friends.write_text("otto@a.example\n")
    for arguments in (("check",), ("rules", "test")):
        status, told = place.call(*arguments)
        assert status == 1
        found = [
            (each["where"], each["text"]) for each in told["problems"] if "rules" in each["setting"]
        ]
        assert found == [
            (
                f"{place.cases}:2",
                "case 'a friend': accept is expected, and it comes to reject by rule others "
                f"({place.rules}:14)",
            ),
            (
                f"{place.cases}:8",
                "case 'a stranger': reject is expected, and it comes to accept by rule friends "
                f"({place.rules}:8): otto@a.example in list friends, {place.friends}:1",
            ),
        ]


def test_cases_of_a_file(place):
    other = place.folder / "other.toml"
    other.write_text('[[case]]\nname = "x"\nsender = "x@y.example"\nexpect = "continue"\n')
    status, told = place.call("rules", "test", str(other))
    assert (status, told["cases"]) == (1, 0)
    assert told["problems"][0]["where"] == f"{other}:1"
    other.write_text('[[case]]\nname = "x"\nsender = "x@y.test"\nexpect = "continue"\n')
    status, told = place.call("rules", "test", str(other))
    assert (status, told["cases"]) == (0, 1)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[[case]]\nname = 'x'\nexpect = 'vanish'\n", "rules.policy.toml:3"),
        ("[[case]]\nname = 'x'\nexpect = 'accept'\nsender = '@'\n", "rules.policy.toml:4"),
        ("[[case]]\nname = 'x'\nexpect = 'accept'\nwhat = 1\n", "rules.policy.toml:4"),
        ("[[case]]\nname = 'x'\nexpect = \n", "rules.policy.toml:3"),
        ("[[case]]\nname='x'\nexpect='accept'\nauth={spf='maybe'}\n", "rules.policy.toml:4"),
        ("[case]\nname = 'x'\n", "rules.policy.toml"),
    ],
)
def test_cases_that_cannot_be_read(place, text, where):
    place.cases.write_text(text)
    assert place.problems("rules", "test")[0][0] == where


def test_a_rule_that_has_expired_is_a_warning(place):
    place.rules.write_text(RULES + "expires = 2020-01-31\n")
    place.cases.unlink()
    status, told = place.call("check")
    assert status == 0
    texts = [each["text"] for each in told["problems"] if each["severity"] == "warning"]
    assert f"{place.rules}:14: rule others has expired" in texts


def test_rules_that_are_not_asked_may_be_wrong(place):
    place.rules.write_text("nonsense")
    assert place.problems() != []
    place.more = "enabled = false\n"
    assert place.problems() == []


def test_wrong_settings_are_told_once(place):
    place.more = "wacht = 1\n"
    status, told = place.call("check")
    assert [each["text"] for each in told["problems"] if "rules" in each["setting"]] == [
        "wacht: unknown setting; did you mean watch?"
    ]
    assert status == 1


def test_what_a_case_can_say(place):
    place.rules.write_text(
        """
[[rule]]
name = "night"
hook = "connect"
when = 'in_hours("22:00-06:00", "Europe/Berlin") && listener == "mta" && !tls'
then = "defer"
[[rule]]
name = "moved"
hook = "rcpt"
when = 'recipient_local == "old"'
then = "redirect"
redirect = "new@example.test"
[[rule]]
name = "forged"
hook = "data"
when = 'dmarc == "fail" && dmarc_policy == "reject" && !signed_by("list.example")'
then = "quarantine"
[[rule]]
name = "score"
hook = "data"
when = 'metadata("x") == "7" || reputation < 10'
then = "discard"
[[rule]]
name = "greeting"
hook = "headers"
when = 'subject == "Grüße" && helo == "h.example" && username == "anna" && size < 100'
then = "reject"
"""
    )
    place.cases.write_text(
        """
[[case]]
name = "at night"
at = 2026-07-01T23:30:00+02:00
expect = "defer"
rule = "night"
[[case]]
name = "at night, encrypted"
at = 2026-07-01T23:30:00+02:00
session = { tls_version = "TLSv1.3" }
expect = "continue"
[[case]]
name = "moved"
at = 2026-07-01T12:00:00Z
recipients = ["one@example.test", "old@example.test"]
expect = "redirect"
rule = "moved"
[[case]]
name = "forged"
at = 2026-07-01T12:00:00Z
auth = { dmarc = "fail", dmarc_policy = "reject" }
expect = "quarantine"
rule = "forged"
[[case]]
name = "a list"
at = 2026-07-01T12:00:00Z
auth = { dmarc = "fail", dmarc_policy = "reject", dkim = "pass", dkim_domain = "list.example" }
expect = "continue"
[[case]]
name = "score"
at = 2026-07-01T12:00:00Z
sender = ""
session = { metadata = { "reputation.score" = "3" } }
expect = "discard"
rule = "score"
[[case]]
name = "greeting"
at = 2026-07-01T12:00:00Z
session = { helo = "h.example", username = "anna", listener = "submission" }
message = \"\"\"
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=

Hi
\"\"\"
expect = "reject"
rule = "greeting"
"""
    )
    status, told = place.call("rules", "test")
    assert told["problems"] == []
    assert (status, told["cases"]) == (0, 7)
