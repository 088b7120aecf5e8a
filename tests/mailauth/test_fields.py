"""Fields of a section, found from the bottom up."""

from elemta.mailauth.fields import Fields

SECTION = (
    b"Received: 1\r\n"
    b"RECEIVED : 2\r\n\tfolded\r\n"
    b"garbage\r\n"
    b"From: a\r\n"
    b"received: 3\r\n"
    b"\r\n"
    b"From: in the body\r\n"
)


def test_what_is_there():
    fields = Fields(SECTION)
    assert fields.names == [b"received", b"received", b"", b"from", b"received"]
    assert b"".join(fields.octets) == SECTION.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert fields.count(b"received") == 3
    assert fields.count(b"subject") == 0
    assert fields.places(b"received") == [0, 1, 4]
    assert fields.find_all(b"from") == [b"From: a\r\n"]
    assert fields.find_values(b"received") == [b" 1", b" 2\r\n\tfolded", b" 3"]
    assert [SECTION[slice(*fields.span(place))] for place in range(5)] == fields.octets


def test_what_a_signature_covers():
    fields = Fields(SECTION)
    names = [b"received", b"from", b"received", b"subject", b"from", b"received", b"received"]
    assert fields.select(names, "relaxed") == [
        b"received:3\r\n",
        b"from:a\r\n",
        b"received:2 folded\r\n",
        b"received:1\r\n",
    ]
    assert fields.select([b"received"] * 2, "simple") == [
        b"received: 3\r\n",
        b"RECEIVED : 2\r\n\tfolded\r\n",
    ]


def test_the_last_line_may_lack_its_end():
    fields = Fields(b"From: a\r\nTo: b")
    assert fields.select([b"to"], "simple") == [b"To: b\r\n"]
    assert fields.find_values(b"to") == [b" b"]
