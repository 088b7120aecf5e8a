"""OpenLDAP's slapd with some users, on LDAP (with STARTTLS) and LDAPS of loopback."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.certificates import Authority
from servers.process import answers, free_port, program, start

BASE = "dc=example,dc=test"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "secret1"
_BIND = bytes.fromhex("300c020101600702010304008000")  # as nobody, without a password
USERS = {"alice": "wonderland", "bob": "pässwörd", "star*": "asterisk", "pa(ren": "bracket"}

_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {home}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {authority}
TLSCertificateFile {chain}
TLSCertificateKeyFile {key}
database mdb
maxsize 67108864
suffix "{base}"
rootdn "{admin}"
rootpw {password}
directory {home}/db
index objectClass,uid,mail eq
access to attrs=userPassword by self write by anonymous auth by * none
access to * by * read
"""
_ENTRIES = f"""dn: {BASE}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people
"""
_USER = """
dn: cn=user {number},ou=people,{base}
objectClass: inetOrgPerson
cn: user {number}
sn: user
uid: {uid}
mail: {mail}
userPassword: {password}
"""


@dataclass(frozen=True)
class Slapd:
    """A running directory."""

    port: int
    tls_port: int
    authority: Path
    process: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        return f"ldaps://localhost:{self.tls_port}"


@contextlib.contextmanager
def run_slapd(folder: Path) -> Iterator[Slapd]:
    """Serve `USERS` below ou=people; "twin" is there twice, with one password."""
    slapd, slapadd = program("slapd", "slapd"), program("slapadd", "slapd")
    home = folder / "slapd"
    (home / "db").mkdir(parents=True)
    authority = Authority(home)
    issued = authority.issue("localhost")
    config = home / "slapd.conf"
    config.write_text(
        _CONFIG.format(
            home=home,
            authority=authority.file,
            chain=issued.chain,
            key=issued.key_file,
            base=BASE,
            admin=ADMIN,
            password=_hash(ADMIN_PASSWORD),
        )
    )
    entries = home / "init.ldif"
    people = [*USERS.items(), ("twin", "same"), ("twin", "same")]
    users = (
        _USER.format(
            number=number,
            base=BASE,
            uid=uid,
            mail=f"{number}@example.test",
            password=_hash(password),
        )
        for number, (uid, password) in enumerate(people)
    )
    entries.write_text("".join([_ENTRIES, *users]))
    subprocess.run([slapadd, "-f", config, "-l", entries], check=True, capture_output=True)
    port, tls_port = free_port(), free_port()
    where = f"ldap://127.0.0.1:{port}/ ldaps://127.0.0.1:{tls_port}/"
    argv = [slapd, "-f", config, "-h", where, "-d", "0"]
    ready = answers(port, _BIND, b"0")
    with start(argv, ready=ready, log=home / "slapd.log") as process:
        yield Slapd(port, tls_port, authority.file, process)


def _hash(password: str) -> str:
    tool = program("slappasswd", "slapd")
    done = subprocess.run(
        [tool, "-h", "{SSHA}", "-s", password], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
