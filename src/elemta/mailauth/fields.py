"""The fields of a header section, cut once and found by name from the bottom up.

Signatures name the fields that they cover; where a field is repeated they mean the last one first
(RFC 6376 §5.4.2). Octets are never altered: what is given is what was received, with its place.
"""

from collections.abc import Iterable

from elemta.mail.headers import cut_fields, name_of
from elemta.mailauth.canonical import RELAXED, SIMPLE, canonical_field


class Fields:
    """A header section.

    Attributes:
        section: As it was given.
        names: Of each field, in lower case, from the top; b"" for lines that are no field.
        octets: Of each field, its CRLF included.
    """

    def __init__(self, section: bytes):
        self.section = section
        self.octets = cut_fields(section)
        self.names = [name_of(octets) for octets in self.octets]
        self._places: dict[bytes, list[int]] = {}
        self._canonical: dict[str, dict[int, bytes]] = {SIMPLE: {}, RELAXED: {}}
        for place, name in enumerate(self.names):
            places = self._places.get(name)
            if places is None:
                self._places[name] = [place]
            else:
                places.append(place)

    def count(self, name: bytes) -> int:
        """Count the fields of a name (lower case)."""
        return len(self._places.get(name, ()))

    def places(self, name: bytes) -> list[int]:
        """Give the numbers of the fields of a name (lower case), the topmost first."""
        return list(self._places.get(name, ()))

    def find_all(self, name: bytes) -> list[bytes]:
        """Give all octets of each field of a name (lower case), the topmost first."""
        return [self.octets[place] for place in self._places.get(name, ())]

    def find_values(self, name: bytes) -> list[bytes]:
        """Give what follows the colon of each field of a name, folds included, CRLF excluded."""
        return [octets.partition(b":")[2].removesuffix(b"\r\n") for octets in self.find_all(name)]

    def span(self, place: int) -> tuple[int, int]:
        """Give where a field begins and ends in the section."""
        start = sum(map(len, self.octets[:place]))
        return start, start + len(self.octets[place])

    def canonical(self, place: int, how: str) -> bytes:
        """Give a field as it is hashed; several signatures of a message share it."""
        known = self._canonical[how]
        field = known.get(place)
        if field is None:
            field = known[place] = canonical_field(self.octets[place], how)
        return field

    def select(self, names: Iterable[bytes], how: str) -> list[bytes]:
        """Give the fields that a signature covers, as they are hashed, in its order.

        Args:
            names: In lower case, as `h=` lists them. Each mention takes the next field of that
                name from the bottom up; a mention too many takes none, and so says that there is
                no other.
            how: "simple" or "relaxed".
        """
        left: dict[bytes, int] = {}
        chosen: list[bytes] = []
        for name in names:
            places = self._places.get(name)
            if places is not None and (index := left.get(name, len(places)) - 1) >= 0:
                left[name] = index
                chosen.append(self.canonical(places[index], how))
        return chosen
