"""Kinds of plugins that others may ask for by name, and what they answer.

A plugin is of a family when it has its methods; it need not say so. Message methods are given the
context of the hook they are called from.
"""

import abc
import enum
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from elemta.mail.errors import PluginError
from elemta.mailauth import AuthStatus
from elemta.plugins.contexts import MessageContext
from elemta.plugins.plugin import Plugin


class ScanStatus(enum.StrEnum):
    """What a scanner thinks of a message; ERROR says nothing about the message."""

    CLEAN = "clean"
    INFECTED = "infected"
    SPAM = "spam"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class FamilyInfo:
    """Who a plugin of a family is: its name, its version, and the family ("antivirus"...)."""

    name: str
    version: str
    type: str


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scanner found: `details` names it, `score` says how sure it is where it counts."""

    status: ScanStatus
    details: str = ""
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class DKIMResult:
    """A signature (RFC 6376), or the lack of one."""

    status: AuthStatus
    domain: str = ""
    selector: str = ""
    details: str = ""


@dataclass(frozen=True, slots=True)
class SPFResult:
    """Whether an address may send for a domain (RFC 7208)."""

    status: AuthStatus
    details: str = ""


@dataclass(frozen=True, slots=True)
class DMARCResult:
    """What the domain in From says of a message: `policy` is "none", "quarantine" or "reject"."""

    status: AuthStatus
    policy: str = "none"
    details: str = ""


@dataclass(frozen=True, slots=True)
class ARCResult:
    """A chain of seals (RFC 8617) and how many there are."""

    status: AuthStatus
    instances: int = 0
    details: str = ""


class _Family(Protocol):
    def get_info(self) -> FamilyInfo: ...


@runtime_checkable
class AntivirusPlugin(_Family, Protocol):
    """Finds viruses."""

    async def scan_message(self, ctx: MessageContext) -> ScanResult: ...


@runtime_checkable
class AntispamPlugin(_Family, Protocol):
    """Tells spam."""

    async def scan_message(self, ctx: MessageContext) -> ScanResult: ...
    async def get_score(self, ctx: MessageContext) -> float: ...


@runtime_checkable
class DKIMPlugin(_Family, Protocol):
    """Verifies signatures and signs; `sign_message` gives the value of the header field."""

    async def verify_signature(self, ctx: MessageContext) -> DKIMResult: ...
    async def sign_message(self, ctx: MessageContext, domain: str) -> str: ...


@runtime_checkable
class SPFPlugin(_Family, Protocol):
    """Checks who may send for a domain."""

    async def check_spf(self, ip: str, domain: str) -> SPFResult: ...


@runtime_checkable
class DMARCPlugin(_Family, Protocol):
    """Checks what the domain of the author wants."""

    async def check_dmarc(self, ctx: MessageContext) -> DMARCResult: ...


@runtime_checkable
class ARCPlugin(_Family, Protocol):
    """Verifies chains of seals, and seals; `seal_message` gives the values of its three fields."""

    async def verify_chain(self, ctx: MessageContext) -> ARCResult: ...
    async def seal_message(self, ctx: MessageContext) -> tuple[str, str, str]: ...


class Families(abc.ABC):
    """Finds plugins by their names and families."""

    @abc.abstractmethod
    def find(self, name: str) -> Plugin[Any] | None:
        """Find a plugin that is enabled."""

    def get_antivirus_plugin(self, name: str) -> AntivirusPlugin:
        """Give an enabled plugin of this family.

        Raises:
            PluginError: There is none of this name, or it is of another kind.
        """
        plugin: object = self.find(name)
        if isinstance(plugin, AntivirusPlugin):
            return plugin
        raise _none(plugin, name, "AntivirusPlugin")

    def get_antispam_plugin(self, name: str) -> AntispamPlugin:
        """Give an enabled plugin of this family.

        Raises:
            PluginError: There is none of this name, or it is of another kind.
        """
        plugin: object = self.find(name)
        if isinstance(plugin, AntispamPlugin):
            return plugin
        raise _none(plugin, name, "AntispamPlugin")

    def get_dkim_plugin(self, name: str) -> DKIMPlugin:
        """Give an enabled plugin of this family.

        Raises:
            PluginError: There is none of this name, or it is of another kind.
        """
        plugin: object = self.find(name)
        if isinstance(plugin, DKIMPlugin):
            return plugin
        raise _none(plugin, name, "DKIMPlugin")

    def get_spf_plugin(self, name: str) -> SPFPlugin:
        """Give an enabled plugin of this family.

        Raises:
            PluginError: There is none of this name, or it is of another kind.
        """
        plugin: object = self.find(name)
        if isinstance(plugin, SPFPlugin):
            return plugin
        raise _none(plugin, name, "SPFPlugin")

    def get_dmarc_plugin(self, name: str) -> DMARCPlugin:
        """Give an enabled plugin of this family.

        Raises:
            PluginError: There is none of this name, or it is of another kind.
        """
        plugin: object = self.find(name)
        if isinstance(plugin, DMARCPlugin):
            return plugin
        raise _none(plugin, name, "DMARCPlugin")

    def get_arc_plugin(self, name: str) -> ARCPlugin:
        """Give an enabled plugin of this family.

        Raises:
            PluginError: There is none of this name, or it is of another kind.
        """
        plugin: object = self.find(name)
        if isinstance(plugin, ARCPlugin):
            return plugin
        raise _none(plugin, name, "ARCPlugin")


def _none(plugin: object, name: str, family: str) -> PluginError:
    if plugin is None:
        return PluginError(f"there is no plugin {name} that is enabled")
    return PluginError(f"plugin {name} does not have the methods of {family}")
