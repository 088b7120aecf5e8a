"""The puppet of tests/servers/plugins in a running server: what it is told, and what it says."""

import json
import shutil
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).parent / "plugins"


class Puppet:
    """Its configuration, and its journal.

    Args:
        folder: Where its files go.
        options: Settings of its `[[plugins.plugin]]`, such as `timeout="0.2s"`.
        answers: What it says to each hook, see its file.
    """

    def __init__(self, folder: Path, answers: dict[str, list[Any]], **options: Any) -> None:
        self.folder = folder / "plugins"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        shutil.copy(PLUGINS / "puppet.py", self.folder)
        (self.folder / "puppet.py").chmod(0o644)
        self.journal = folder / "journal.jsonl"
        config = {"journal": str(self.journal), "answers": answers}
        lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
        text = json.dumps(config).replace("{", "{{").replace("}", "}}")
        self.config = "\n".join(
            [
                "[plugins]",
                f"directory = {json.dumps(str(self.folder))}",
                "[[plugins.plugin]]",
                'name = "puppet"',
                *lines,
                f"config = '{text}'",
                "",
            ]
        )

    def calls(self, *hooks: str) -> list[dict[str, Any]]:
        """What it was told, in order; of these hooks, or of all."""
        if not self.journal.exists():
            return []
        calls = [json.loads(line) for line in self.journal.read_text().split("\n") if line]
        return [call for call in calls if not hooks or call["asked"] in hooks]
