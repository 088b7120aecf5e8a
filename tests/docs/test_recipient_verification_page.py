"""docs/recipient-verification.md: its settings exist, are all of them, and its examples work."""

import contextlib
import re
import tomllib
from pathlib import Path

import apsw
import pytest

from elemta.app.plugins import check_plugins
from elemta.config import read
from elemta.plugins.builtin.recipient_verification.settings import (
    Destination,
    VerificationSettings,
)

PAGE = (Path(__file__).parents[2] / "docs" / "recipient-verification.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "model"), [("Settings", VerificationSettings), ("Destinations", Destination)]
)
def test_all_settings_are_told_of_as_they_are(heading, model):
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)` )?\| (.*) \|$", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(model.model_fields)
    for name, default, meaning in rows:
        field = model.model_fields[name]
        assert meaning == field.description
        has_default = not field.is_required() and field.default is not None
        assert bool(default) is has_default, name
        if default:
            expected = list(field.default) if isinstance(field.default, tuple) else field.default
            assert tomllib.loads(f"x = {default}")["x"] == expected, name


@pytest.mark.parametrize("text", EXAMPLES)
async def test_examples_of_settings(text, tmp_path):
    table = tmp_path / "recipients"
    table.write_text("ann@example.test\n")
    path = tmp_path / "elemta.toml"
    text = text.replace("/etc/elemta/recipients", str(table))
    mailboxes = tmp_path / "mailboxes.db"
    with contextlib.closing(apsw.Connection(str(mailboxes))) as connection:
        connection.execute("CREATE TABLE recipients (address TEXT PRIMARY KEY)")
    text = text.replace("/var/lib/mailboxes.db", str(mailboxes))
    path.write_text(text + '[server]\nhostname = "mail.example.test"\n')
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []
    assert loaded.config.plugins.plugins
