"""Plugins as files, and the roster that runs them, for tests."""

from pathlib import Path

from elemta.mail import events as ev
from elemta.plugins.finding.problems import PluginsError
from elemta.plugins.loading.roster import Roster
from elemta.plugins.plugin import Plugin
from elemta.plugins.settings import PluginSettings, PluginsSettings
from elemta.testing import FakeClock, FakeResolver

HEAD = "from elemta.plugins import Metadata, Plugin, Result, Settings\n\n\n"


def source(name="sample", body="", **metadata) -> str:
    """The text of a plugin: its class with this name, and lines of its body."""
    told = "".join(f", {key}={value!r}" for key, value in metadata.items())
    lines = "".join(f"    {line}\n" for line in body.split("\n") if line)
    return f"{HEAD}class Sample(Plugin):\n    metadata = Metadata(name={name!r}{told})\n{lines}"


LIFE = """
calls = None
async def setup(self): self.note("setup")
async def self_check(self): self.note("self_check")
async def enable(self): self.note("enable")
async def disable(self): self.note("disable")
async def close(self): self.note("close")
def hand_over(self): return self.calls
def take_over(self, state): self.calls = [*state, "take_over"]
def note(self, what): self.calls = [*(self.calls or []), what]
def on_connect(self, ctx): self.note("on_connect")
"""


class Workshop:
    """A folder of plugins, and what becomes of it."""

    def __init__(self, folder: Path):
        self.folder = folder / "plugins"
        self.folder.mkdir()
        self.state = folder / "var"
        (self.state / "run").mkdir(parents=True)
        self.events: list[ev.Event] = []
        self.clock = FakeClock()
        self.roster: Roster | None = None

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def settings(self, *plugins: PluginSettings, **more) -> PluginsSettings:
        return PluginsSettings(
            directory=self.folder,
            state_dir=self.state,
            version="1.5.0",
            plugins=plugins,
            **more,
        )

    async def load(self, *plugins: PluginSettings, **more) -> Roster:
        settings = self.settings(*plugins, **more)
        self.roster = await Roster.load(settings, self.events.append, self.clock, FakeResolver({}))
        return self.roster

    async def problems(self, *plugins: PluginSettings, **more) -> list[str]:
        """What is said of plugins that cannot be loaded, folders left out."""
        try:
            await self.load(*plugins, **more)
        except PluginsError as error:
            return [str(each).replace(f"{self.folder}/", "") for each in error.problems]
        return []

    def plugin(self, name: str = "sample") -> Plugin:
        assert self.roster is not None
        found = self.roster.find(name)
        assert found is not None
        return found

    def changes(self) -> list[tuple[str, str]]:
        return [
            (event.plugin, event.change)
            for event in self.events
            if isinstance(event, ev.PluginChanged)
        ]
