"""An example plugin on the bench: loaded from its file, and asked in few words."""

from pathlib import Path
from typing import Any

from elemta.plugins import Plugin, Settings
from elemta.plugins.finding.files import import_file
from elemta.plugins.finding.inspection import find_class
from elemta.testing import Answer, PluginBench

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/plugins"


def find_example(name: str) -> type[Plugin[Settings]]:
    """The plugin in a file."""
    return find_class(import_file(EXAMPLES / f"{name}.py"))


def said(answer: Answer) -> str:
    """An answer in few words: "" for nothing, "550 5.7.1 text" for a reply, else the action."""
    if answer.reply is not None:
        return str(answer.reply)
    return "" if answer.action == "continue" and not answer.edits else answer.action.value


class Stage(PluginBench[Plugin[Settings]]):
    """One of them, with its settings."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(find_example(name), settings)

    async def client(self, ip: str) -> str:
        """Connect."""
        return said(await self.connect(ip))

    async def sender(self, address: str, **about: Any) -> str:
        """Say MAIL in a session of its own."""
        self.session_of(**about)
        return said(await self.mail_from(address))

    async def rcpt(
        self,
        recipient: str,
        *,
        sender: str = "a@b.test",
        before: tuple[str, ...] = (),
        relaying: bool = False,
        **about: Any,
    ) -> str:
        """Say RCPT in a session of its own."""
        self.session_of(**about)
        return said(
            await self.run(
                "on_rcpt_to",
                recipient=recipient,
                sender=sender,
                recipients=before,
                is_relaying=relaying,
            )
        )

    def session_of(self, ip: str = "192.0.2.1", **about: Any) -> None:
        """Begin a session without telling the plugin."""
        for name, value in {"client_ip": ip, "username": "", "is_trusted": False, **about}.items():
            setattr(self.session, name, value)

    async def content(self, hook: str, raw: bytes, sender: str = "a@b.test") -> Answer:
        """Send a message."""
        answer = await self.run(hook, content=raw, sender=sender)
        assert not answer.error
        return answer
