"""Tag lists, read strictly."""

import pytest

from elemta.mailauth.tags import MAX_OCTETS, MAX_TAGS, TagError, drop_space, parse_tags


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b"v=1; a=b", {"v": "1", "a": "b"}),
        (b" v = 1 ;\r\n\ta\t=\r\n b ; ", {"v": "1", "a": "b"}),
        (b"v=1;", {"v": "1"}),
        (b"v=", {"v": ""}),
        (b"", {}),
        (b"A=1; a=2; a_1=3", {"A": "1", "a": "2", "a_1": "3"}),
        (b"p=ab\r\n cd; n=a = b", {"p": "ab cd", "n": "a = b"}),
        ("d=bücher.example".encode(), {"d": "bücher.example"}),
        (b"v=DKIM1; p=x\r\n", {"v": "DKIM1", "p": "x"}),
    ],
)
def test_lists(value, tags):
    assert parse_tags(value) == tags
    assert list(parse_tags(value)) == list(tags)


@pytest.mark.parametrize(
    "value",
    [
        b"v=1; v=1",
        b"v=1;; a=b",
        b";",
        b"; v=1",
        b"v",
        b"=1",
        b"1v=1",
        b"_v=1",
        b"a b=1",
        b"v=1\0",
        b"v=\x0b1",
        b"v=1\r\na=2",
        b"v=1\n a",
        b"v=\r1",
        b"v=\xff",
        b";".join(b"t%d=1" % number for number in range(MAX_TAGS + 1)),
        b"v=" + b"x" * MAX_OCTETS,
    ],
)
def test_what_is_no_list(value):
    with pytest.raises(TagError):
        parse_tags(value)


def test_space_within_values():
    assert drop_space("ab \t cd ") == "abcd"
    assert drop_space("a\u2028b\u00a0c") == "a\u2028b\u00a0c"  # no space, to tag lists
