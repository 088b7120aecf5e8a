"""Postfix, in a tree of its own."""

import contextlib
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.neighbour import NOBODY, SUBMITTED, TAKEN_IN, Neighbour, Way
from servers.private import home
from servers.process import listens, program, start

DOMAIN = "postfix.test"
_SERVICES = Path("/usr/share/postfix/master.cf.dist")
_MAIN = """
compatibility_level = 3.6
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
meta_directory = /etc/postfix
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = postfix.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
alias_database =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}
virtual_mailbox_maps = static:mail/
virtual_uid_maps = static:{nobody}
virtual_gid_maps = static:{nobody}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
smtpd_tls_received_header = yes
smtpd_discard_ehlo_keywords =
smtp_host_lookup = native
smtp_dns_support_level = disabled
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = localhost
smtp_tls_CAfile = {authority}
smtp_tls_loglevel = 1
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{{ {{ [127.0.0.1]:{submission} = {login}:{password} }} }}
transport_maps = inline:{{
  {{ {taken_in} = smtp:[127.0.0.1]:{mta} }}
  {{ {submitted} = submit:[127.0.0.1]:{submission} }} }}
"""
_SUBMIT = "submit unix - - n - - smtp -o smtp_sasl_auth_enable=yes"


@contextlib.contextmanager
def run_postfix(port: int, way: Way) -> Iterator[Neighbour]:
    """Serve on a port."""
    postfix = program("postfix", "postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix changes to its own account: this test needs root")
    owner = pwd.getpwnam("postfix")
    with home("postfix") as folder:
        for part, who in (("data", owner.pw_uid), ("mail", NOBODY)):
            (folder / part).mkdir()
            os.chown(folder / part, who, -1)
        (folder / "queue").mkdir()
        conf = folder / "etc"
        conf.mkdir()
        certificate = way.authority.issue("localhost", file="postfix")
        main = _MAIN.format(
            folder=folder,
            domain=DOMAIN,
            nobody=NOBODY,
            chain=certificate.chain,
            key=certificate.key_file,
            authority=way.authority.file,
            mta=way.mta,
            submission=way.submission,
            login=way.login,
            password=way.password,
            taken_in=TAKEN_IN,
            submitted=SUBMITTED,
        )
        (conf / "main.cf").write_text(main)
        (conf / "master.cf").write_text(_services(port))
        log = folder / "postfix.log"
        argv = [postfix, "-c", conf, "start-fg"]
        with contextlib.ExitStack() as stack:
            stop = [postfix, "-c", conf, "stop"]  # its master outlives the command that began it
            stack.callback(subprocess.run, stop, capture_output=True, check=False, timeout=60)
            stack.enter_context(start(argv, ready=listens(port), log=folder / "out.log"))
            yield Neighbour(DOMAIN, port, folder / "mail", log)


def _services(port: int) -> str:
    """Debian's services, one SMTP server on loopback, nothing in a chroot."""
    lines = [f"127.0.0.1:{port} inet n - n - - smtpd", _SUBMIT]
    lines.append("postlog unix-dgram n - n - 1 postlogd")
    for line in _SERVICES.read_text().split("\n"):
        service = re.fullmatch(r"(\S+\s+(?:unix|fifo)\s+\S\s+\S\s+)[yn](\s.*)", line)
        if service and not re.match(r"postlog\s", line) and "pipe" not in line:
            lines.append(f"{service[1]}n{service[2]}")
    return "\n".join(lines) + "\n"
