"""The puppet of tests/servers/plugins in a running server: what it is told, and what it says."""

import json
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).parent / "plugins"


class Puppet:
    """Its configuration, and its journal.

    Args:
        folder: Where its files go.
        options: Settings of its `[[plugins.plugin]]`, such as `timeout="0.2s"`.
        answers: What it says to each hook, see its file.
        name: A second one in the same folder needs another.

    Attributes:
        table: Its part of the configuration.
        config: The same, with what holds for all plugins.
    """

    def __init__(
        self, folder: Path, answers: dict[str, list[Any]], *, name: str = "puppet", **options: Any
    ) -> None:
        self.folder = folder / "plugins"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        path = self.folder / f"{name}.py"
        path.write_text((PLUGINS / "puppet.py").read_text().replace('"puppet"', f'"{name}"'))
        path.chmod(0o644)
        self.journal = folder / f"{name}.jsonl"
        config = {"journal": str(self.journal), "answers": answers}
        lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        text = json.dumps(config).replace("{", "{{").replace("}", "}}")
        self.table = "\n".join(
            ["[[plugins.plugin]]", f'name = "{name}"', *lines, f"config = '{text}'", ""]
        )
        self.config = f"[plugins]\ndirectory = {json.dumps(str(self.folder))}\n{self.table}"

    def calls(self, *hooks: str) -> list[dict[str, Any]]:
        """What it was told, in order; of these hooks, or of all."""
        if not self.journal.exists():
            return []
        # What follows the last line feed is being written just now.
        *lines, _ = self.journal.read_text().split("\n")
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if not hooks or call["asked"] in hooks]
