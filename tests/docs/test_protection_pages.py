"""The pages on strangers and their names: their settings exist, are all, and examples work."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from elemta.app.plugins import check_plugins
from elemta.config import read
from elemta.plugins.builtin.dnsbl.settings import DnsblSettings, ListSettings
from elemta.plugins.builtin.geoip import GeoipSettings
from elemta.plugins.builtin.greylist.settings import GreylistSettings
from elemta.plugins.builtin.reputation.settings import ReputationSettings

DOCS = Path(__file__).parents[2] / "docs"
TABLES = [
    ("dnsbl.md", "Lists", ListSettings),
    ("dnsbl.md", "Settings", DnsblSettings),
    ("greylist.md", "Settings", GreylistSettings),
    ("reputation.md", "Settings", ReputationSettings),
    ("reputation.md", "Databases", GeoipSettings),
]
PAGES = sorted({page for page, _, _ in TABLES})


def examples():
    for page in PAGES:
        text = (DOCS / page).read_text()
        for example in re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            yield pytest.param(example, id=f"{page}:{example.count(chr(10))}")


def plain(value):
    """Give a default as TOML has it."""
    if isinstance(value, BaseModel):
        return {}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return [plain(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize(("page", "heading", "model"), TABLES)
def test_all_settings_are_told_of_as_they_are(page, heading, model):
    text = (DOCS / page).read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)` )?\| (.*) \|$", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(model.model_fields)
    for name, default, meaning in rows:
        field = model.model_fields[name]
        assert meaning == field.description
        assert bool(default) is not field.is_required()
        if default:
            assert tomllib.loads(f"x = {default}")["x"] == plain(field.default), name


@pytest.mark.parametrize("text", list(examples()))
async def test_examples_of_settings(text, tmp_path):
    path = tmp_path / "elemta.toml"
    secret = tmp_path / "password"
    secret.write_text("open-sesame\n")
    secret.chmod(0o600)
    text = re.sub(r"file:/etc/elemta/[\w-]+", f"file:{secret}", text)
    path.write_text(text + '[server]\nhostname = "mail.example.test"\n')
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []
    assert loaded.config.plugins.plugins
