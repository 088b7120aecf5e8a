"""Finds the line of each key in a TOML document, which the standard library does not tell.

It is only given documents that `tomllib` has read without complaint, so it does not judge: it
walks over tables, keys and values and notes where each begins. Keys are paths of names and,
for items of arrays, numbers: `("listeners", 0, "address")`.
"""

from collections.abc import Mapping

Path = tuple[str | int, ...]

_SPACE = " \t"
_BLANK = " \t\r\n"
_BARE_ENDS = " \t\r\n=.]#,}"


def locate(text: str) -> Mapping[Path, int]:
    """Give the line, from 1, of every table, key and array item of a valid TOML document."""
    scan = _Scan(text)
    scan.document()
    return scan.lines


class _Scan:
    """One walk through a document; `_at` is the next character to be read."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._counted = (0, 1)  # a place in the text, and its line
        self._tables: dict[Path, int] = {}  # arrays of tables, and how many items each has

    def document(self) -> None:
        table: Path = ()
        while self._skip_blank():
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    # ---- the parts of a document

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        line = self._line()
        self._at += 2 if is_array else 1
        names = self._key()
        self._at = self._text.index("]", self._at) + (2 if is_array else 1)
        path: Path = ()
        for name in names[:-1]:
            path = (*path, name)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        path = (*path, names[-1])
        if is_array:
            count = self._tables.get(path, 0)
            self._tables[path] = count + 1
            self.lines.setdefault(path, line)
            path = (*path, count)
        self.lines.setdefault(path, line)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _key(self) -> list[str]:
        """Read a key, dotted and quoted as it may be, up to what follows it."""
        text, names = self._text, []
        while True:
            self._skip(_SPACE)
            quote = text[self._at]
            if quote in "\"'":
                begin = self._at + 1
                self._string()
                name = text[begin : self._at - 1]
                names.append(_unescaped(name) if quote == '"' else name)
            else:
                begin = self._at
                while text[self._at] not in _BARE_ENDS:
                    self._at += 1
                names.append(text[begin : self._at])
            self._skip(_SPACE)
            if text[self._at] != ".":
                return names
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in "\r\n#,]}":
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._skip_blank() and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self.lines.setdefault((*path, index), self._line())
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._skip_blank() and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._at += 1
            else:
                self._pair(path)
        self._at += 1

    def _string(self) -> None:
        text, quote = self._text, self._text[self._at]
        is_long = text.startswith(quote * 3, self._at)
        end = quote * 3 if is_long else quote
        self._at += len(end)
        while not text.startswith(end, self._at):
            self._at += 2 if quote == '"' and text[self._at] == "\\" else 1
        self._at += len(end)
        while is_long and text.startswith(quote, self._at):  # quotes just before the end
            self._at += 1

    # ---- places

    def _skip(self, letters: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in letters:
            self._at += 1

    def _skip_blank(self) -> bool:
        """Go over white space and comments; False at the end of the document."""
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return False
            if self._text[self._at] != "#":
                return True
            end = self._text.find("\n", self._at)
            self._at = len(self._text) if end < 0 else end

    def _line(self) -> int:
        counted_to, line = self._counted
        line += self._text.count("\n", counted_to, self._at)
        self._counted = (self._at, line)
        return line


def _unescaped(name: str) -> str:
    """Undo the escapes of a quoted key; none are hidden from `tomllib`, which knows them best."""
    if "\\" not in name:
        return name
    import tomllib  # noqa: PLC0415 - escapes in keys are rare enough

    (key,) = tomllib.loads(f'"{name}" = 0')
    return key
