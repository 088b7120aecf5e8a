"""docs/rates.md: its settings exist, are all of them, and its examples work."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, SecretStr

from elemta.app.plugins import check_plugins
from elemta.cli.limits import PARTS
from elemta.config import read
from elemta.plugins.builtin._valkey import ValkeySettings
from elemta.plugins.builtin.rate_limiter.settings import LimitSettings, Part, RateLimiterSettings

PAGE = (Path(__file__).parents[2] / "docs" / "rates.md").read_text()
MODELS = {"A limit": LimitSettings, "Settings": RateLimiterSettings, "The store": ValkeySettings}


def section(heading):
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def plain(value):
    """Give a default as TOML has it."""
    if isinstance(value, BaseModel):
        return {}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("heading", MODELS)
def test_all_settings_are_told_of_as_they_are(heading):
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? ?\| (.*) \|$", section(heading), re.MULTILINE)
    fields = MODELS[heading].model_fields
    assert [name for name, _, _ in rows] == list(fields)
    for name, default, meaning in rows:
        assert meaning == fields[name].description
        assert bool(default) is not fields[name].is_required()
        if default:
            assert tomllib.loads(f"x = {default}")["x"] == plain(fields[name].default), name


def test_all_parts_of_keys_are_told_of():
    first = [line.split("|")[1] for line in section("Keys").splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == set(get_args(Part))
    assert get_args(Part) == PARTS


@pytest.mark.parametrize(
    "text", re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
)
async def test_examples_of_settings(text, tmp_path):
    path, secret = tmp_path / "elemta.toml", tmp_path / "password"
    secret.write_text("open sesame\n")
    secret.chmod(0o600)
    text = text.replace("file:/etc/elemta/valkey-password", f"file:{secret}")
    path.write_text(text + '[server]\nhostname = "mail.example.test"\n')
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []
    assert loaded.config.rate_limiter.plugins
