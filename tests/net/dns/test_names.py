"""Names as labels and as text."""

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.net.dns.names import labels_of, to_labels, to_text


@pytest.mark.parametrize("name", ["a", "a.b", "_dmarc.example.test", "x" * 63 + ".test", "."])
def test_names(name: str) -> None:
    assert (*to_labels(name), b"") == dns.name.from_text(name).labels
    assert to_text(to_labels(name)) == name


def test_case_and_a_final_dot_do_not_matter() -> None:
    assert to_labels("WWW.Example.Test.") == to_labels("www.example.test")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".a",
        "a..b",
        "a.b..",
        "x" * 64,
        ".".join(["x" * 60] * 5),
        "b\u00fccher.test",
        "\u212a",
    ],
)
def test_what_no_zone_can_hold(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        to_labels(name)


def test_letters_of_a_name_that_was_received_are_small() -> None:
    name = dns.name.from_text("WWW.Example.TEST.")
    assert labels_of(name) == (b"www", b"example", b"test")
    assert labels_of(dns.name.root) == ()


def test_a_dot_within_a_label_is_no_dot() -> None:
    for label, text in (
        (b"a.b", "a\\046b"),
        (b"a\\b", "a\\092b"),
        (b"a b", "a\\032b"),
        (b"\xff\0", "\\255\\000"),
    ):
        assert to_text((label, b"test")) == text + ".test"


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6))
def test_text_has_as_many_labels_as_the_name(labels: list[bytes]) -> None:
    text = to_text(tuple(labels))
    assert text.isascii()
    assert text.isprintable()
    assert len(text.split(".")) == max(len(labels), 1) or text == "."
    for label, part in zip(labels, text.split("."), strict=False):
        assert (part.encode() == label) is (
            all(33 <= octet < 127 and octet not in b".\\" for octet in label)
        )
