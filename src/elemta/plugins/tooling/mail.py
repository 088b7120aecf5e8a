"""Mail of plugins: each submits its own in its own name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Submit(Protocol):
    """Puts a message of a plugin into the queue; see `elemta.plugins.tools.Mail`."""

    async def submit(
        self, plugin: str, sender: str, recipients: Sequence[str], content: bytes, /
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class OwnMail:
    """`elemta.plugins.tools.Mail` of one plugin."""

    plugin: str
    submitting: Submit

    async def submit(self, sender: str, recipients: Sequence[str], content: bytes, /) -> None:
        await self.submitting.submit(self.plugin, sender, recipients, content)
