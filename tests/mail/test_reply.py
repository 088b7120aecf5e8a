"""Replies cannot break the dialogue they are part of."""

import pytest

from elemta.mail.reply import TEXT_LIMIT, Reply, clean_text


def test_one_line():
    assert Reply(250, "Ok", "2.0.0").encode() == b"250 2.0.0 Ok\r\n"
    assert Reply(220, "mx ready").encode() == b"220 mx ready\r\n"


def test_several_lines_carry_the_code_each():
    assert Reply(250, "a\nb\nc", "2.1.0").encode() == (
        b"250-2.1.0 a\r\n250-2.1.0 b\r\n250 2.1.0 c\r\n"
    )


@pytest.mark.parametrize(
    ("code", "enhanced", "shown"), [(550, "4.7.1", "5.7.1"), (451, "5.3.0", "4.3.0")]
)
def test_the_class_of_the_enhanced_code_is_that_of_the_code(code, enhanced, shown):
    assert Reply(code, "x", enhanced).encode() == f"{code} {shown} x\r\n".encode()


@pytest.mark.parametrize(
    "text",
    [
        "550 x\r\n250 ok",
        "a\rb",
        "nul\0",
        "esc\x1b[31m",
        "nel\x85",
        "ls\u2028x",
        "rlo\u202ex",
        "\udce9",
    ],
)
def test_foreign_text_stays_in_its_line(text):
    wire = Reply(550, text.replace("\n", ""), "5.0.0").encode()
    assert wire.count(b"\r\n") == 1
    assert wire.endswith(b"\r\n")
    assert all(letter.isprintable() for letter in wire[:-2].decode())


def test_lines_have_a_limit():
    assert len(Reply(550, "x" * 5000, "5.0.0").encode()) <= TEXT_LIMIT + 20
    assert len(clean_text("y" * 5000, 100)) == 100


@pytest.mark.parametrize(
    "unseen",
    "\u00ad\u034f\u115f\u180e\u200b\u200c\u200d\u2060\u2064\u206f\u3164\ufe0f\uffa0\ufffb\U000e0041",
    ids=ascii,
)
def test_what_is_not_seen_is_shown(unseen):
    assert clean_text(f"pay{unseen}pal") == "pay pal"
    assert clean_text(f"pay{unseen}pal", keep_unseen=True) == f"pay{unseen}pal"


@pytest.mark.parametrize("mark", ["\u061c", "\u200e", "\u200f", "\u202e", "\u2066", "\ufeff"])
def test_marks_of_direction_are_never_kept(mark):
    assert clean_text(f"a{mark}b") == clean_text(f"a{mark}b", keep_unseen=True) == "a b"


def test_kinds():
    assert Reply(354, "go").is_positive
    assert Reply(451, "later").is_temporary
    assert Reply(550, "no").is_permanent
    assert str(Reply(550, "no\nnever", "5.1.1")) == "550 5.1.1 no never"
