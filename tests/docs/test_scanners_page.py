"""docs/scanners.md: its settings exist, are all of them, and its examples work."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from elemta.app.plugins import check_plugins
from elemta.config import read
from elemta.plugins.builtin._scanning import ScanningSettings
from elemta.plugins.builtin.clamav import ClamavSettings
from elemta.plugins.builtin.rspamd.settings import RspamdSettings
from elemta.plugins.builtin.spamassassin import SpamassassinSettings

PAGE = (Path(__file__).parents[2] / "docs" / "scanners.md").read_text()
SHARED = {
    name: field
    for name, field in ScanningSettings.model_fields.items()
    if name not in {"servers", "max_size"}
}
MODELS = {"clamav": ClamavSettings, "rspamd": RspamdSettings, "spamassassin": SpamassassinSettings}


def own(model) -> dict:
    """The settings that a scanner alone has, or has otherwise than all."""

    def is_shared(name, field) -> bool:
        found = SHARED.get(name)
        same = found is not None and found.description == field.description
        return same and found.default == field.default

    fields = model.model_fields.items()
    return {name: field for name, field in fields if not is_shared(name, field)}


def plain(value):
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("heading", ["Shared settings", *MODELS])
def test_all_settings_are_told_of_as_they_are(heading):
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)` )?\| (.*) \|$", section, re.MULTILINE)
    fields = own(MODELS[heading]) if heading in MODELS else SHARED
    assert [name for name, _, _ in rows] == list(fields)
    for name, default, meaning in rows:
        value = tomllib.loads(f"x = {default}")["x"] if default else None
        assert value == plain(fields[name].default)
        assert meaning == fields[name].description


@pytest.mark.parametrize(
    "text", re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
)
async def test_examples_of_settings(text, tmp_path):
    path = tmp_path / "elemta.toml"
    path.write_text('[server]\nhostname = "mail.example.test"\n' + text)
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []
