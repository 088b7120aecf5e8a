"""Rules know where a client is, on a running server, also when the database has changed."""

from plugins.builtin.geoip.mmdb import write_mmdb
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running

RULES = """
[plugins]
plugins = ["rules", "geoip"]
[plugins.geoip]
country = "{folder}/country.mmdb"
check_every = 1
[[plugins.rules.rule]]
name = "elsewhere"
hook = "mail"
when = 'country == "XA"'
then = "reject"
text = "Not from there"
"""


def test_rules_know_countries(tmp_path):
    folder = tmp_path / "elemta"
    folder.mkdir()
    write_mmdb(folder / "country.mmdb", {"127.0.0.2/32": {"country": {"iso_code": "XA"}}})

    def attempt(source: str) -> str:
        with Dialogue(server.port, source=source) as client:
            client.hello()
            return client.say("MAIL FROM:<a@a.test>")

    with running(folder, rest=MAILDIR + RULES) as server:
        assert attempt("127.0.0.2").startswith("550 5.7.1 Not from there")
        assert attempt("127.0.0.3").startswith("250 ")
        write_mmdb(folder / "new", {"127.0.0.4/32": {"country": {"iso_code": "XA"}}})
        (folder / "new").replace(folder / "country.mmdb")
        server.wait_for(lambda: attempt("127.0.0.4").startswith("550 "), "the new database", 15)
        assert server.events("plugin_error") == []
