"""Where a client is, on a running server: rules know it, and who may log in depends on it."""

import ssl

from plugins.builtin.geoip.mmdb import write_mmdb
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.logins import AUTH, PASSWORD, add_user, plain, submission
from servers.process import free_port

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
        server.wait_for(lambda: attempt("127.0.0.4").startswith("550 "), "the new database")
        assert server.events("plugin_error") == []


LOGINS = (
    AUTH
    + """
[[auth.rules]]
countries = ["xb"]
networks = ["127.0.7.0/24"]
[plugins]
plugins = ["geoip"]
[plugins.geoip]
country = "{folder}/country.mmdb"
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[limits.brake]
enabled = false
"""
)


def test_logins_depend_on_the_country(tmp_path):
    folder = tmp_path / "elemta"
    folder.mkdir()
    authority = Authority(folder)
    authority.issue("localhost")
    places = {"127.0.0.2/32": "XA", "127.0.0.3/32": "XB"}
    countries = {net: {"country": {"iso_code": code}} for net, code in places.items()}
    write_mmdb(folder / "country.mmdb", countries)
    port, table = submission()
    implicit = free_port()
    listeners = f'{table}xclient = ["127.0.0.0/16"]\n[[listeners]]\naddress = '
    listeners += f'"127.0.0.1:{implicit}"\nkind = "submissions"\n'
    context = ssl.create_default_context(cafile=str(authority.file))

    def log_in(source: str, *before: str, tls: bool = False) -> str:
        with Dialogue(implicit if tls else port, source=source, greet=not tls) as client:
            if tls:
                client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
                client.reply()
            client.hello()
            for command in before:
                client.say(command)
            return client.say(plain("anna", PASSWORD))[:9]

    with running(folder, rest=MAILDIR + LOGINS, listeners=listeners) as server:
        add_user(server, "anna")
        ok, wrong = "235 2.7.0", "535 5.7.8"
        assert log_in("127.0.0.3") == log_in("127.0.0.3", tls=True) == ok
        assert log_in("127.0.0.2") == log_in("127.0.0.2", tls=True) == wrong
        assert log_in("127.0.0.4") == wrong  # nobody knows where that is
        assert log_in("127.0.7.1") == ok
        # as a proxy tells it, the client is somewhere else
        assert log_in("127.0.0.2", "XCLIENT ADDR=127.0.0.3", "EHLO a.test") == ok
        assert log_in("127.0.0.3", "XCLIENT ADDR=127.0.0.4", "EHLO a.test") == wrong
        failures = server.wait_event("auth_failed", 4)
        reasons = {event["client_ip"]: event["reason"] for event in failures}
        assert reasons["127.0.0.2"] == "outside the countries allowed: XA"
        assert reasons["127.0.0.4"].endswith("nobody knows in which it is")
