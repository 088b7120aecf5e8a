"""docs/authentication.md: its settings exist, are all of them, and its examples work."""

import re
import tomllib
from pathlib import Path

import pytest

from elemta import plugins as api
from elemta.app.plugins import check_plugins
from elemta.config import read
from elemta.mailauth import AuthStatus, DkimVerdict
from elemta.plugins.builtin._judging import JudgingSettings
from elemta.plugins.builtin.arc.plugin import ArcPluginSettings
from elemta.plugins.builtin.authentication_results import ResultsSettings
from elemta.plugins.builtin.dkim.verifying import VerifyingSettings
from elemta.plugins.builtin.dmarc import DmarcPluginSettings
from elemta.plugins.builtin.iprev import IprevSettings
from elemta.plugins.builtin.spf import SpfPluginSettings
from elemta.testing import PluginBench

PAGE = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()
SHARED = list(JudgingSettings.model_fields)
MODELS = {
    "Whose mail is judged": JudgingSettings,
    "iprev": IprevSettings,
    "spf": SpfPluginSettings,
    "dkim": VerifyingSettings,
    "arc": ArcPluginSettings,
    "dmarc": DmarcPluginSettings,
    "authentication-results": ResultsSettings,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("heading", MODELS)
def test_all_settings_are_told_of_as_they_are(heading):
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*) \|$", section, re.MULTILINE)
    model = MODELS[heading]
    shared = () if model is JudgingSettings else SHARED
    fields = {name: field for name, field in model.model_fields.items() if name not in shared}
    assert [name for name, _, _ in rows] == list(fields)
    for name, default, meaning in rows:
        value = tomllib.loads(f"x = {default}")["x"]
        expected = fields[name].default
        assert value == (list(expected) if isinstance(expected, tuple) else expected)
        assert meaning == fields[name].description


@pytest.mark.parametrize("text", blocks("toml"))
async def test_examples_of_settings(text, tmp_path):
    path = tmp_path / "elemta.toml"
    path.write_text('[server]\nhostname = "mail.example.test"\n' + text)
    loaded = read(path, {})
    assert loaded.problems == ()
    assert await check_plugins(loaded.config, loaded.source.where) == []
    assert loaded.config.authentication.plugins


async def test_the_example_of_a_plugin():
    (text,) = blocks("python")
    names = {name: getattr(api, name) for name in api.__all__}
    exec(text, names)
    async with PluginBench(names["OnlySigned"]) as it:
        await it.mail_from()
        assert not (await it.validated("Subject: x\r\n\r\n")).is_refused
        for status, refused in ((AuthStatus.NONE, True), (AuthStatus.PASS, False)):
            it.session.message.authentication.dkim = (DkimVerdict(status),)
            assert (await it.validated("Subject: x\r\n\r\n")).is_refused is refused
