"""What commands print is safe to look at, and JSON says what it was made of."""

import json

import pytest

from elemta.cli.output import JsonList, put_json

TEXTS = [
    "\x1b[31mred\r\n",
    "\x7f\x85\x9b31m",
    "\u202eevil\u2066\u2028next\u200b",
    "half \ud83d",
    "J\u00fcrgen \U0001f4ec",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_json_cannot_harm_a_terminal_and_means_the_same(text, capsys):
    items = JsonList()
    for _ in range(2):
        items.add({"text": text})
    items.close()
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n"))
    assert json.loads(printed) == [{"text": text}] * 2
    put_json({text: 1})
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n"))
    assert json.loads(printed) == {text: 1}


def test_letters_of_other_scripts_stay_as_they_are(capsys):
    put_json("J\u00fcrgen")
    assert capsys.readouterr().out == '"J\u00fcrgen"\n'
