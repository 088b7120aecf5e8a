"""Dovecot's LMTP server, on TCP and a unix socket, with mailboxes of its own."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import private
from servers.process import free_port, listens, program, start

_CONFIG = """
base_dir = {home}/run
state_dir = {home}/run
log_path = /dev/stderr
protocols = lmtp
listen = 127.0.0.1
ssl = no
mail_location = maildir:{mail}/%u
mail_plugins = quota
first_valid_uid = 1
first_valid_gid = 1
auth_username_chars =
passdb {{
  driver = passwd-file
  args = username_format=%u {home}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {home}/users
  default_fields = uid=nobody gid=nogroup home={mail}/%u
}}
plugin {{
  quota = maildir:User quota
}}
service lmtp {{
  unix_listener lmtp.sock {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


@dataclass(frozen=True)
class Dovecot:
    """A running server: its port on 127.0.0.1, its unix socket, its mailboxes."""

    port: int
    socket: Path
    mail: Path

    def mailbox(self, user: str) -> list[bytes]:
        """The messages of a user."""
        return [path.read_bytes() for path in sorted(self.mail.glob(f"{user}/new/*"))]


@contextlib.contextmanager
def run_dovecot(users: Mapping[str, str]) -> Iterator[Dovecot]:
    """Serve mailboxes: address to quota ("1K"), or to "" for none."""
    dovecot = program("dovecot", "dovecot-lmtpd")
    if os.geteuid() != 0:
        pytest.skip("Dovecot delivers as other users: this test needs root")
    port = free_port()
    with private.home("dovecot") as home:
        mail = home / "mail"
        mail.mkdir()
        mail.chmod(0o777)
        lines = [
            f"{user}:{{PLAIN}}secret::::::" + (f"userdb_quota_rule=*:storage={quota}" * bool(quota))
            for user, quota in users.items()
        ]
        (home / "users").write_text("\n".join(lines) + "\n")
        config = home / "dovecot.conf"
        config.write_text(_CONFIG.format(home=home, mail=mail, port=port))
        argv = [dovecot, "-F", "-c", config]
        with start(argv, ready=listens(port), log=home / "dovecot.log"):
            yield Dovecot(port, home / "run" / "lmtp.sock", mail)
