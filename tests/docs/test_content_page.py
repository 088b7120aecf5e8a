"""docs/content.md: its settings exist, are all of them, and its examples work."""

import json
import re
from pathlib import Path

import pytest

from elemta.app.plugins import check_plugins
from elemta.config import read
from elemta.plugins.builtin._mime import InspectionSettings
from elemta.plugins.builtin.attachments.plugin import _ORDER, HEADER
from elemta.plugins.builtin.attachments.settings import AttachmentsSettings
from elemta.plugins.builtin.content import plugin as content
from elemta.plugins.builtin.content.settings import ContentSettings, Rule

PAGE = (Path(__file__).parents[2] / "docs" / "content.md").read_text()
SHARED = set(InspectionSettings.model_fields)
ROW = re.compile(r"^\| `(\w+)` \| `(.*?)` \| (.*) \|$", re.MULTILINE)
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def default_of(field) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "unset"
    found = field.default
    return json.dumps(sorted(found) if isinstance(found, frozenset) else found)


def test_all_settings_are_told_of_as_they_are():
    rows = ROW.findall(PAGE)
    expected = []
    for model in (InspectionSettings, AttachmentsSettings, ContentSettings, Rule):
        for name, field in model.model_fields.items():
            if model is InspectionSettings or name not in SHARED:
                expected.append((name, default_of(field), field.description))
    assert rows == expected


@pytest.mark.parametrize("text", EXAMPLES)
async def test_examples_of_settings(text, tmp_path):
    path = tmp_path / "elemta.toml"
    path.write_text('[server]\nhostname = "mail.example.test"\n' + text)
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []


def test_what_it_names():
    assert f"`{HEADER}`" in PAGE
    assert f"`{content.HEADER}`" in PAGE
    order = ", ".join(f"`{action}`" for action in reversed(_ORDER))
    assert order in " ".join(PAGE.split())
