"""What the pages on plugins outside the worker show is compiled or read, and acts."""

import re
import subprocess
from pathlib import Path

import pytest
from plugins.remote.outside import outside, session
from servers.process import program

from elemta.config import read
from elemta.mail.address import Address
from elemta.plugins import EnvelopeContext
from elemta.plugins.finding.inspection import judge_metadata
from elemta.plugins.finding.sources import Kind
from elemta.plugins.result import Action

PAGES = Path(__file__).parents[3] / "docs" / "plugins"


def block(page, language):
    text = (PAGES / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[-1]


@pytest.mark.parametrize("page", ["isolation", "native", "grpc"])
def test_the_configuration_is_one(page, tmp_path):
    path = tmp_path / "elemta.toml"
    path.write_text(block(page, "toml"))
    told = [str(problem) for problem in read(path, {}).problems]
    assert [text for text in told if "plugin" in text] == []


def test_the_metadata_are_metadata():
    shown = {}
    exec(block("isolation", "python"), shown)
    assert list(judge_metadata(shown["metadata"])) == []


async def test_the_plugin_in_rust(tmp_path):
    rustc = program("rustc", "rustc")
    (tmp_path / "dotless.rs").write_text(block("native", "rust"))
    command = block("native", "sh").split()
    assert command[0] == "rustc"
    done = subprocess.run(
        [rustc, *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    path = tmp_path / "libdotless.so"
    async with outside(tmp_path, path, kind=Kind.LIBRARY, name="dotless") as it:
        for sender, action in (
            (Address("a", "example.test"), None),
            (Address("a", "localhost"), Action.REJECT),
            (None, None),
        ):
            context = EnvelopeContext("on_mail_from", session(), sender)
            result = await it.plugin.on_mail_from(context)
            assert (result.action if result is not None else None) is action
