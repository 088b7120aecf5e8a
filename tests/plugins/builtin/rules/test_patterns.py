"""Patterns of RE2, and the letters that are looked for before RE2 is asked."""

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from elemta.plugins.builtin.rules.lists.patterns import compile_pattern, first_letters

PIECES = [
    "cheap",
    "che?",
    "ap{2}",
    "wat*",
    " x+",
    "|",
    "(?i)",
    ".{0,3}",
    "[a-c]",
    "s",
    "K",
    "\\d",
    "^",
]
TEXTS = st.text(alphabet="cheapwtx sKk\u212a\u017f1\u00df", max_size=30)


@pytest.mark.parametrize(
    ("pattern", "letters"),
    [
        ("cheap.{0,20}watches", "cheap"),
        ("cheap? watches", "chea"),
        ("cheap*", "chea"),
        ("cheap{0}", "chea"),
        ("cheap+", "cheap"),
        ("cheap|dear", ""),
        ("ab", ""),
        ("abc?", ""),
        ("^cheap", ""),
        ("[c]heap", ""),
        ("(?s)cheap", ""),
    ],
)
def test_which_letters_every_match_has(pattern, letters):
    assert first_letters(pattern) == letters


@pytest.mark.parametrize("text", ["CHEAP \u212aeys", "cheap Keys", "so CHEAP KEYS"])
def test_letters_of_other_alphabets_fold_as_in_re2(text):
    assert compile_pattern("(?i)cheap keys").search(text) is not None
    assert compile_pattern("cheap keys").search(text) is None


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join), TEXTS)
def test_it_finds_what_re2_finds(pattern, text):
    try:
        plain = re2.compile(pattern)
    except re2.error:
        with pytest.raises(ValueError, match="no regular expression"):
            compile_pattern(pattern)
        return
    assert (compile_pattern(pattern).search(text) is None) == (plain.search(text) is None)
