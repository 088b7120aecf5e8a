"""Where an address is, from a local database (MaxMind DB), read anew when its file changes.

The file is read into memory: one that is written over while it is in use could end the server. The
package `maxminddb` is imported where a database is named, not before.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text

MISSING = "the Python package maxminddb is missing: install elemta[geoip]"
MAX_SIZE = 512 * 1024 * 1024  # octets of a database: those of cities have 60 MB
_BROKEN = (ValueError, RuntimeError, LookupError, TypeError, OSError)


class GeoDatabase:
    """A file of facts by network.

    Attributes:
        problem: Why it is not there, "" where it is.
    """

    def __init__(self, path: Path) -> None:
        """Remember where it is.

        Raises:
            PluginError: The package is missing.
        """
        try:
            self._package = importlib.import_module("maxminddb")
        except ImportError:
            raise PluginError(MISSING) from None
        self.path = path
        self.problem = "it has not been read"
        self._reader: Any = None
        self._stamp: tuple[int, int, int] | None = None

    def refresh(self) -> bool:
        """Read the file if it is another one; say whether anything has changed.

        What is there is used on while the file is missing or broken. It blocks.
        """
        before = self.problem, self._stamp
        try:
            stat = self.path.stat()
            stamp = stat.st_ino, stat.st_mtime_ns, stat.st_size
            if stamp == self._stamp:
                return False
            if stat.st_size > MAX_SIZE:
                raise ValueError(f"it has more than {MAX_SIZE} octets")
            self._reader = self._package.open_database(self.path, self._package.MODE_MEMORY)
        except _BROKEN as error:
            self.problem = clean_text(str(error), 200)
        else:
            self.problem, self._stamp = "", stamp
        return before != (self.problem, self._stamp)

    def find(self, address: str) -> Mapping[str, Any]:
        """Give what it says of an address; nothing where it says nothing, or is broken."""
        if self._reader is None:
            return {}
        try:
            found = self._reader.get(address)
        except _BROKEN:
            return {}
        return found if isinstance(found, dict) else {}


def read_country(found: Mapping[str, Any]) -> str:
    """Give the code of a country ("DE"), "" for none; as MaxMind, DB-IP and IPinfo write it."""
    for name in ("country", "registered_country", "country_code"):
        value = found.get(name)
        code = value.get("iso_code") if isinstance(value, dict) else value
        if isinstance(code, str) and len(code) == 2 and code.isascii() and code.isalpha():
            return code.upper()
    return ""


def read_asn(found: Mapping[str, Any]) -> tuple[int, str]:
    """Give the number and the name of a network, 0 and "" for none."""
    number = found.get("autonomous_system_number", found.get("asn", 0))
    if isinstance(number, str) and number.upper().removeprefix("AS").isascii():
        digits = number.upper().removeprefix("AS")
        number = int(digits) if digits.isdigit() and len(digits) <= 10 else 0
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 1 << 32:
        return 0, ""
    name = found.get("autonomous_system_organization", found.get("as_name", ""))
    return number, clean_text(name, 100) if isinstance(name, str) else ""
