"""What answers of lists mean, and which of them count."""

from ipaddress import IPv4Address

import pytest

from elemta.plugins.builtin.dnsbl.codes import ListError, parse_codes, read_answer


def test_codes():
    assert read_answer([]) == ()
    assert read_answer(["127.0.0.2", "127.0.1.4"]) == (
        IPv4Address("127.0.0.2"),
        IPv4Address("127.0.1.4"),
    )


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "10.0.0.2",
        "126.255.255.255",
        "128.0.0.0",
        "0.0.0.0",
        "127.255.255.252",
        "127.255.255.254",
        "127.255.255.255",
        "127.0.0.1",
    ],
)
def test_what_is_no_listing(address):
    with pytest.raises(ListError, match=address.replace(".", r"\.")):
        read_answer(["127.0.0.2", address])


@pytest.mark.parametrize(
    ("text", "counted", "others"),
    [
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.3"]),
        ("127.0.0.4-127.0.0.7", ["127.0.0.4", "127.0.0.7"], ["127.0.0.3", "127.0.0.8"]),
        ("127.0.1.0/24", ["127.0.1.0", "127.0.1.255"], ["127.0.0.255", "127.0.2.0"]),
        ("127.0.0.0/255.255.255.252", ["127.0.0.3"], ["127.0.0.4"]),
        ("&6", ["127.0.0.2", "127.0.0.4", "127.0.0.14"], ["127.0.0.8", "127.0.0.1"]),
    ],
)
def test_which_codes_count(text, counted, others):
    counts = parse_codes(text)
    assert all(counts(IPv4Address(each)) for each in counted)
    assert not any(counts(IPv4Address(each)) for each in others)


@pytest.mark.parametrize(
    "text",
    ["", "2", "&0", "&256", "&-1", "127.0.0.7-127.0.0.4", "127.0.0.1/24", "127.0.0.2-", "::1"],
)
def test_what_are_no_codes(text):
    with pytest.raises(ValueError, match="codes are"):
        parse_codes(text)
