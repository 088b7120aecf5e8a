#!/usr/bin/env python3
"""Write the pages of this folder that are made from the code: `make docs`.

With `--check` nothing is written; it says which pages are out of date and ends with status 1.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from elemta.config.reference import write_reference
from elemta.observe.pages import write_log_page, write_metrics_page

FOLDER = Path(__file__).parent
PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": write_reference,
    "log.md": write_log_page,
    "metrics.md": write_metrics_page,
}


def stale_pages(folder: Path = FOLDER) -> list[str]:
    """Name the pages that are missing or differ from what would be written."""
    return [
        name
        for name, write in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != write()
    ]


def main() -> int:
    """Write what is out of date, or say so."""
    stale = stale_pages()
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"docs/{name} is out of date: run `make docs`\n")
        return 1 if stale else 0
    for name in stale:
        (FOLDER / name).write_text(PAGES[name](), "utf-8")
        sys.stdout.write(f"docs/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
