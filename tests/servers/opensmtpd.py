"""OpenSMTPD, with accounts and folders of its own.

Debian 12 has 6.8.0, which with OpenSSL 3 cannot sign in a handshake as a server ("missing private
key"); it offers STARTTLS all the same.
"""

import contextlib
import os
from collections.abc import Iterator

from servers.neighbour import NOBODY, SUBMITTED, TAKEN_IN, Neighbour, Way
from servers.private import home, start_private, unpacked

DOMAIN = "opensmtpd.test"
_ACCOUNTS = ("opensmtpd", "opensmtpq")  # compiled in, and so are the folders
_CONFIG = """
pki localhost cert "{chain}"
pki localhost key "{key}"
table secrets {{ us = "{login}:{password}" }}
listen on 127.0.0.1 port {port} tls pki localhost hostname {domain}
action "here" maildir "{mail}" user nobody virtual {{ "@" = nobody }}
action "mta" relay host "smtp+tls://localhost:{mta}" tls helo {domain}
action "submission" relay host "smtp+tls://us@localhost:{submission}" tls \\
  auth <secrets> helo {domain}
match from any for domain "{domain}" action "here"
match from any for domain "{taken_in}" action "mta"
match from any for domain "{submitted}" action "submission"
"""


@contextlib.contextmanager
def run_opensmtpd(port: int, way: Way) -> Iterator[Neighbour]:
    """Serve on a port."""
    root = unpacked("opensmtpd", "usr/sbin/smtpd")
    with home("opensmtpd") as folder:
        mail, config, hosts = folder / "mail", folder / "smtpd.conf", folder / "hosts"
        for part in ("mail", "lib/opensmtpd/empty", "run", "spool/smtpd"):
            (folder / part).mkdir(parents=True)
        os.chown(mail, NOBODY, -1)
        (folder / "spool/smtpd").chmod(0o711)
        hosts.write_text("127.0.0.1 localhost\n")
        certificate = way.authority.issue("localhost", file="opensmtpd")
        files = {"chain": certificate.chain, "key": certificate.key_file, "mail": mail}
        ways = {"port": port, "mta": way.mta, "submission": way.submission}
        domains = {"domain": DOMAIN, "taken_in": TAKEN_IN, "submitted": SUBMITTED}
        config.write_text(
            _CONFIG.format(**files, **ways, **domains, login=way.login, password=way.password)
        )
        over = {
            "/var/lib": folder / "lib",
            "/var/spool": folder / "spool",
            "/run": folder / "run",
            "/usr/libexec": root / "usr/libexec",
            "/etc/hosts": hosts,
            "/etc/ssl/certs/ca-certificates.crt": way.authority.file,
        }
        program = root / "usr/sbin/smtpd"
        argv = [program, "-dv", "-f", config]
        with start_private(folder, argv, accounts=_ACCOUNTS, over=over, port=port):
            yield Neighbour(DOMAIN, port, mail, folder / "out.log")
