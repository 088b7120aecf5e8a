"""Plugins that others ask for by family."""

import pytest
from plugins.workshop import source

from elemta.mail.errors import PluginError
from elemta.plugins.families import FamilyInfo, ScanStatus
from elemta.plugins.settings import PluginSettings

SCANNER = """
async def scan_message(self, ctx):
    from elemta.plugins import ScanResult, ScanStatus
    return ScanResult(ScanStatus.INFECTED, "Eicar")
def get_info(self):
    from elemta.plugins import FamilyInfo
    return FamilyInfo("clamav", "1.0", "antivirus")
"""
METHODS = {
    "antivirus": ("scan_message",),
    "antispam": ("scan_message", "get_score"),
    "dkim": ("verify_signature", "sign_message"),
    "spf": ("check_spf",),
    "dmarc": ("check_dmarc",),
    "arc": ("verify_chain", "seal_message"),
}


async def test_a_scanner(workshop):
    workshop.write("clamav.py", source("clamav", SCANNER))
    roster = await workshop.load()
    scanner = roster.get_antivirus_plugin("clamav")
    result = await scanner.scan_message(None)
    assert (result.status, result.details) == (ScanStatus.INFECTED, "Eicar")
    assert scanner.get_info() == FamilyInfo("clamav", "1.0", "antivirus")


@pytest.mark.parametrize("family", METHODS)
async def test_a_plugin_is_of_the_family_whose_methods_it_has(workshop, family):
    def body(methods):
        return "\n".join(f"async def {each}(self, *args): ..." for each in methods)

    whole = ("get_info", *METHODS[family])
    workshop.write("a.py", source("a", body(whole)))
    workshop.write("b.py", source("b", body(whole[:-1])))
    workshop.write("c.py", source("c", body(whole)))
    roster = await workshop.load(PluginSettings("c", enabled=False))
    get = getattr(roster, f"get_{family}_plugin")
    assert get("a") is roster.find("a")
    with pytest.raises(PluginError, match="plugin b does not have the methods of"):
        get("b")
    for name in ("c", "d"):
        with pytest.raises(PluginError, match=f"there is no plugin {name} that is enabled"):
            get(name)
