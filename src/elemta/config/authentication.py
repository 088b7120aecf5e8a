"""The settings of mail authentication: which of the plugins that do it are asked.

What each of them can be told in detail is in its table, `[plugins.spf]` and so on.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from elemta.config.plugins import PluginsConfig
from elemta.config.sections import Section, live
from elemta.config.submission import DomainOrNone
from elemta.config.values import Switch

Place = tuple[str | int, ...]

RESULTS = "authentication-results"
"""The plugin that writes down what the others have found out."""


class AuthenticationConfig(Section):
    """Who really sent a message: SPF, DKIM, DMARC and ARC; docs/authentication.md tells the rest.

    What is enabled here are plugins that Elemta brings. They are asked before all others of the
    same `priority`, as if they were named first. What they do in detail is set in `[plugins.spf]`,
    `[plugins.dkim]` and so on, and these go before what is set here.
    """

    iprev_enabled: Annotated[
        Switch, live("Whether the name of a client's address leads back to it (RFC 8601 §3).")
    ] = False
    spf_enabled: Annotated[
        Switch, live("Whether the client may send for the domain of the sender (SPF, RFC 7208).")
    ] = False
    dkim_enabled: Annotated[
        Switch,
        live("Who has signed a message (DKIM, RFC 6376); mail that is submitted can be signed."),
    ] = False
    arc_enabled: Annotated[
        Switch, live("What servers on the way say of a message (ARC, RFC 8617).")
    ] = False
    dmarc_enabled: Annotated[
        Switch,
        live(
            "What the domain in From wants to be done with mail that nobody vouches for (DMARC, "
            "RFC 9989). A `dmarc_policy` enables it, too."
        ),
    ] = False
    dmarc_policy: Annotated[
        Literal["", "none", "quarantine", "reject"],
        live(
            "The most that is done for DMARC, whatever a domain asks for: `none` writes the "
            "result down, `quarantine` keeps such mail where an operator sees it, `reject` refuses "
            "it. Empty: what the domain asks for."
        ),
    ] = ""
    results: Annotated[
        Literal["auto", "on", "off"],
        live(
            "Results go into an Authentication-Results field (RFC 8601), and fields that only "
            'claim to be ours are removed. "auto": where anything of this is enabled.'
        ),
    ] = "auto"
    authserv_id: Annotated[
        DomainOrNone,
        live("The name under which results are written; empty: `server.hostname`."),
    ] = ""

    @property
    def has_dmarc(self) -> bool:
        """Whether DMARC is checked."""
        return self.dmarc_enabled or bool(self.dmarc_policy)

    @property
    def plugins(self) -> Mapping[str, Mapping[str, Any]]:
        """The plugins that are asked, in order, with what they are told."""
        named = {"authserv_id": self.authserv_id} if self.authserv_id else {}
        capped = {"policy": self.dmarc_policy} if self.dmarc_policy else {}
        wanted: tuple[tuple[str, bool, Mapping[str, Any]], ...] = (
            ("iprev", self.iprev_enabled, {}),
            ("spf", self.spf_enabled, {}),
            ("dkim", self.dkim_enabled, {}),
            ("arc", self.arc_enabled, named),
            ("dmarc", self.has_dmarc, capped),
        )
        found = {name: settings for name, is_enabled, settings in wanted if is_enabled}
        if self.results == "on" or (self.results == "auto" and found):
            found[RESULTS] = named
        return found


def find_authentication_faults(
    authentication: AuthenticationConfig, plugins: PluginsConfig
) -> Iterator[tuple[Place, str, bool]]:
    """Look at the settings as a whole.

    Yields:
        The setting, what is wrong with it, and whether that is an error.
    """
    asked = authentication.plugins
    if asked and plugins.enabled is False:
        yield ("authentication",), "has no effect: plugins are not enabled", False
    if authentication.has_dmarc:
        if not {"spf", "dkim"} & asked.keys() and not plugins.named & {"spf", "dkim"}:
            text = "DMARC without SPF and DKIM finds that nobody vouches for any message"
            yield ("authentication", "dmarc_enabled"), text, False
        elif "dkim" not in asked and "dkim" not in plugins.named:
            text = "DMARC without DKIM refuses mail that is passed on, and much else"
            yield ("authentication", "dkim_enabled"), text, False
        if "arc" not in asked and "arc" not in plugins.named and _trusts_sealers(plugins):
            text = "DMARC trusts sealers, and nobody looks at seals"
            yield ("authentication", "arc_enabled"), text, False


def _trusts_sealers(plugins: PluginsConfig) -> bool:
    """Whether DMARC is told whose seals to trust."""
    tables = [plugins.tables.get("dmarc", {})]
    tables += [each.config for each in plugins.plugin if each.name == "dmarc"]
    return any(table.get("trusted_sealers") for table in tables)
