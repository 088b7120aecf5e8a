"""Refusals in the words of an operator."""

import pytest

from elemta.mail.reply import Reply
from elemta.mail.template import split_template
from elemta.mail.why import Mail, Who
from elemta.mail.wording import NAMES, Saying, Wording, check_text

DENIED = Reply(550, "Relaying denied", "5.7.1")
LATER = Reply(451, "Try again later", "4.7.1")
WHO = Who("s1", "192.0.2.7", "mta", "client.example.org", "ESMTPA", "", "ann")
MAIL = Mail("a@example.org", ("b@example.net", "c@example.net"))


def said(reply=DENIED, rule="relay", stage="rcpt", **saying):
    wording = Wording([Saying(**({"rule": "relay"} | saying))], "mail.example.test")
    return wording.reword(reply, rule, stage, WHO, MAIL)


def test_what_stands_for_what():
    text = "|".join(f"{{{name}}}" for name in NAMES)
    assert said(text=text).text == (
        "Relaying denied|relay|192.0.2.7|client.example.org|ann|a@example.org|b@example.net"
        "|mail.example.test"
    )
    assert said(text="{{x}} {text}").text == "{x} Relaying denied"


@pytest.mark.parametrize("text", ["{nobody}", "{", "a } b", "{}", "{text!r}", "{who.address}"])
def test_what_stands_for_nothing(text):
    with pytest.raises(ValueError, match="stands"):
        check_text(text)


def test_what_others_say_cannot_break_the_reply():
    who = Who("s1", "192.0.2.7", "mta", "x\r\n250 Ok {rule}\u202e" + "y" * 500)
    wording = Wording([Saying("*", "{helo}")], "m.test")
    told = wording.reword(DENIED, "relay", "rcpt", who, Mail())
    assert told.text.startswith("x  250 Ok {rule} yyy")
    assert len(told.text) == 255
    assert told.encode().count(b"\r\n") == 1
    assert wording.reword(DENIED, "relay", "rcpt", Who(), Mail()).text == "Relaying denied"


@pytest.mark.parametrize(
    ("name", "rule", "fits"),
    [
        ("relay", "relay", True),
        ("relay", "relays", False),
        ("limits.*", "limits.message_rate", True),
        ("limits.*", "limits", False),
        ("*", "greylist", True),
    ],
)
def test_whose_refusals(name, rule, fits):
    assert (said(rule=rule, text="x").text == "x") is (rule == "relay")
    wording = Wording([Saying(name, "x")], "m.test")
    assert (wording.reword(DENIED, rule, "rcpt", WHO, MAIL).text == "x") is fits


def test_the_first_that_fits_counts():
    sayings = [Saying("x", "1"), Saying("*", "2", code=450), Saying("*", "3"), Saying("*", "4")]
    wording = Wording(sayings, "m.test")
    assert wording.reword(DENIED, "relay", "rcpt", WHO, MAIL).text == "3"
    assert str(wording.reword(LATER, "relay", "rcpt", WHO, MAIL)) == "450 4.7.1 2"


def test_a_refusal_stays_what_it_is_unless_that_is_meant():
    assert str(said(code=554, enhanced="5.7.0")) == "554 5.7.0 Relaying denied"
    assert said(code=451) is DENIED
    assert str(said(code=451, changes_class=True)) == "451 4.7.1 Relaying denied"
    assert str(said(LATER, code=550, changes_class=True)) == "550 5.7.1 Try again later"
    assert str(said(Reply(501, "Bad"), code=550)) == "550 Bad"
    assert str(said(enhanced="5.7.27")) == "550 5.7.27 Relaying denied"


@pytest.mark.parametrize(
    ("reply", "stage"),
    [
        (Reply(421, "Bye", "4.7.0"), "rcpt"),
        (Reply(554, "No", "5.7.1"), "connect"),
        (Reply(535, "Wrong", "5.7.8"), "auth"),
        (Reply(454, "Later", "4.7.0"), "starttls"),
    ],
)
def test_codes_that_mean_something_stay(reply, stage):
    told = said(reply, stage=stage, text="Ask us", code=550, enhanced="5.5.5", changes_class=True)
    assert (told.code, told.enhanced, told.text) == (reply.code, reply.enhanced, "Ask us")


def test_an_id_is_kept():
    assert said(Reply(550, "x", "5.7.1", "abcd"), text="y").id == "abcd"


def test_pieces():
    assert list(split_template("a{b}{{c}}")) == [
        ("a", False),
        ("b", True),
        ("", False),
        ("{", False),
        ("c", False),
        ("}", False),
        ("", False),
    ]
