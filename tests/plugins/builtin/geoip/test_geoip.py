"""Where clients are: databases that are there, missing, broken, and changed."""

import sys

import pytest
from plugins.builtin.geoip.mmdb import write_mmdb

from elemta.mail.errors import PluginError
from elemta.plugins.builtin._geoip import read_asn, read_country
from elemta.plugins.builtin._known import country_of
from elemta.plugins.builtin.geoip import Geoip
from elemta.testing import PluginBench

COUNTRIES = {
    "192.0.2.0/24": {"country": {"iso_code": "DE"}},
    "2001:db8::/32": {"registered_country": {"iso_code": "fr"}},
    "198.51.100.0/24": {"continent": {"code": "EU"}},
}
NETWORKS = {
    "192.0.2.0/24": {
        "autonomous_system_number": 64496,
        "autonomous_system_organization": "Example\r\nNetworks of Some Length",
    }
}


@pytest.fixture
def files(tmp_path):
    write_mmdb(tmp_path / "country.mmdb", COUNTRIES)
    write_mmdb(tmp_path / "asn.mmdb", NETWORKS)
    return tmp_path


def bench(files, **settings):
    wanted = {"country": str(files / "country.mmdb"), "asn": str(files / "asn.mmdb")}
    return PluginBench(Geoip, wanted | settings)


async def test_what_is_known(files):
    async with bench(files) as it:
        await it.connect("192.0.2.7")
        assert country_of(it.session) == "DE"
        assert it.session.metadata["geoip.asn"] == "64496"
        assert it.session.metadata["geoip.network"].startswith("Example")
        assert "\n" not in it.session.metadata["geoip.network"]
        await it.mail_from()
        assert it.session.message.notes["geoip"].startswith("DE AS64496 Example")
        await it.connect("2001:db8::1")
        assert it.session.metadata == {"geoip.country": "FR"}
        await it.mail_from()
        assert it.session.message.notes == {"geoip": "FR"}
        assert it.count("clients", result="known") == 2


@pytest.mark.parametrize("ip", ["198.51.100.1", "203.0.113.1", "fe80::1%eth0", ""])
async def test_who_is_not_known(files, ip):
    async with bench(files) as it:
        answer = await it.connect(ip)
        assert it.session.metadata == {}
        assert answer.error == ""
        await it.mail_from()
        assert it.session.message.notes == {}


async def test_only_one_database(files):
    async with bench(files, asn="") as it:
        await it.connect("192.0.2.7")
        assert it.session.metadata == {"geoip.country": "DE"}


async def test_a_file_that_changes_is_read_anew(files):
    async with bench(files) as it:
        await it.connect("192.0.2.7")
        new = files / "new"
        write_mmdb(new, {"192.0.2.0/24": {"country_code": "AT"}})
        new.replace(files / "country.mmdb")
        await it.plugin.refresh()
        await it.connect("192.0.2.7")
        assert country_of(it.session) == "AT"


@pytest.mark.parametrize("content", [None, b"", b"no database", b"\xab\xcd\xefMaxMind.com\xff"])
async def test_a_file_that_is_missing_or_broken(files, content):
    path = files / "country.mmdb"
    good = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    async with bench(files) as it:
        answer = await it.connect("192.0.2.7")
        assert (answer.error, country_of(it.session)) == ("", "")
        assert it.session.metadata["geoip.asn"] == "64496"
        ((level, text),) = it.log
        assert level == "warning"
        assert text.startswith(f"{path} cannot be read: ")
        await it.plugin.refresh()
        assert len(it.log) == 1
        path.write_bytes(good)
        await it.plugin.refresh()
        assert it.log[1:] == [("info", f"{path} has been read")]
        await it.connect("192.0.2.7")
        assert country_of(it.session) == "DE"


async def test_what_was_read_is_used_on(files):
    async with bench(files) as it:
        (files / "country.mmdb").write_bytes(b"no database")
        await it.plugin.refresh()
        await it.connect("192.0.2.7")
        assert country_of(it.session) == "DE"
        assert len(it.log) == 1


async def test_a_database_whose_tree_leads_nowhere(files):
    path = files / "country.mmdb"
    raw = path.read_bytes()
    path.write_bytes(b"\x7f" * 64 + raw[64:])
    async with bench(files) as it:
        answer = await it.connect("192.0.2.7")
        assert (answer.error, country_of(it.session)) == ("", "")


async def test_the_package_is_missing(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with pytest.raises(PluginError, match=r"elemta\[geoip\]"):
        await bench(files).start()


@pytest.mark.parametrize(
    ("found", "country"),
    [
        ({"country": "de"}, "DE"),
        ({"country": {"iso_code": 7}, "country_code": "AT"}, "AT"),
        ({"country": "Germany"}, ""),
        ({"country": "1\n"}, ""),
        ({}, ""),
    ],
)
def test_countries(found, country):
    assert read_country(found) == country


@pytest.mark.parametrize(
    ("found", "asn"),
    [
        ({"asn": "AS64496", "as_name": "Example"}, (64496, "Example")),
        ({"asn": "ASx"}, (0, "")),
        ({"asn": "9" * 5000}, (0, "")),
        ({"autonomous_system_number": -1}, (0, "")),
        ({"autonomous_system_number": 1 << 40}, (0, "")),
        ({"autonomous_system_number": 64497, "autonomous_system_organization": 5}, (64497, "")),
        ({}, (0, "")),
    ],
)
def test_networks(found, asn):
    assert read_asn(found) == asn
