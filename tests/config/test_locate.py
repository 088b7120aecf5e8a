import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.config.locate import locate

DOCUMENT = '''\
# a comment with [brackets] and = signs
top = 1
"quoted key" = "[not a table]"
a.b . 'c d' = { x = 1, "y" = [1,
  2], z.w = "}" } # comment

[server]   # [other]
hostname = """
[listeners]
fake = 1 \\""" still
"""
text = \'\'\'
[[routes]]\'\'\'\'
[ relay . "in ner" ]
list = [
  "one", # "two",
  [ "three" ],

  { four = 4 },
]
[[listeners]]
address = "x"

[[listeners]]
kind = "y"
[listeners.extra]
deep = true
[[listeners.more]]
n = 1
[[listeners.more]]
n = 2
"esc\\u0041ped" = 2024-01-01
'''

EXPECTED = {
    ("top",): 2,
    ("quoted key",): 3,
    ("a",): 4,
    ("a", "b"): 4,
    ("a", "b", "c d"): 4,
    ("a", "b", "c d", "x"): 4,
    ("a", "b", "c d", "y"): 4,
    ("a", "b", "c d", "y", 0): 4,
    ("a", "b", "c d", "y", 1): 5,
    ("a", "b", "c d", "z"): 5,
    ("a", "b", "c d", "z", "w"): 5,
    ("server",): 7,
    ("server", "hostname"): 8,
    ("server", "text"): 12,
    ("relay", "in ner"): 14,
    ("relay", "in ner", "list"): 15,
    ("relay", "in ner", "list", 0): 16,
    ("relay", "in ner", "list", 1): 17,
    ("relay", "in ner", "list", 1, 0): 17,
    ("relay", "in ner", "list", 2): 19,
    ("relay", "in ner", "list", 2, "four"): 19,
    ("listeners",): 21,
    ("listeners", 0): 21,
    ("listeners", 0, "address"): 22,
    ("listeners", 1): 24,
    ("listeners", 1, "kind"): 25,
    ("listeners", 1, "extra"): 26,
    ("listeners", 1, "extra", "deep"): 27,
    ("listeners", 1, "more"): 28,
    ("listeners", 1, "more", 0): 28,
    ("listeners", 1, "more", 0, "n"): 29,
    ("listeners", 1, "more", 1): 30,
    ("listeners", 1, "more", 1, "n"): 31,
    ("listeners", 1, "more", 1, "escAped"): 32,
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_key_has_its_line(line_end):
    document = DOCUMENT.replace("\n", line_end)
    tomllib.loads(document)
    assert dict(locate(document)) == EXPECTED


def test_an_empty_document():
    assert dict(locate("")) == {}
    assert dict(locate("# only this")) == {}


_names = st.text("abcdefgh", min_size=1, max_size=4)
_scalars = st.sampled_from(["1", "-2.5", "true", '"x # ] } = \\" y"', "'a\\'", "'''\n'x'\n'''"])
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[" + " ,\n ".join(items) + "\n]"),
    max_leaves=6,
)


@given(st.dictionaries(_names, st.dictionaries(_names, _values, max_size=3), max_size=4))
def test_finds_what_tomllib_finds(tables):
    document = "".join(
        f"[{name}] # here\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
        for name, table in tables.items()
    )
    tree = tomllib.loads(document)
    lines = locate(document)
    rows = document.split("\n")
    for name, table in tree.items():
        assert rows[lines[(name,)] - 1].startswith(f"[{name}]")
        for key in table:
            assert rows[lines[(name, key)] - 1].startswith(f"{key} = ")
