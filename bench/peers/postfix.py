"""Postfix in a tree of its own, set up to be fast without giving up durability.

ACCEPT: the access action HOLD makes cleanup(8) write the message to the hold queue, where the
queue manager leaves it alone. The process limit, which is the listen backlog, too, is raised
over the number of sessions; nothing asks the DNS; the rate limits per client are off.
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.load import DOMAIN, find_tool
from bench.loopback import HOST, free_port, give_back
from bench.options import Mode
from bench.peers.server import Place, Server, Start, running_process
from bench.processes import BenchError

_QUEUES = ("active", "incoming", "deferred", "hold")
_STOCK_SETTINGS = (
    "mail_version",
    "mail_owner",
    "command_directory",
    "daemon_directory",
    "meta_directory",
    "config_directory",
)
_MAIN = """\
compatibility_level = 3.6
command_directory = {commands}
daemon_directory = {daemons}
meta_directory = {meta}
queue_directory = {queue}
data_directory = {data}
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = mx.bench.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
relay_domains = {domain}
alias_maps =
alias_database =
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_data_restrictions = {data_restrictions}
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
default_process_limit = 250
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
smtpd_tls_security_level = none
smtp_tls_security_level = none
relayhost = [127.0.0.1]:{sink_port}
"""


class Postfix:
    """The yardstick. It takes root, as its master always does."""

    name = "Postfix"

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise BenchError("Postfix can be started by root only")
        self._known = {name: _postconf(name) for name in _STOCK_SETTINGS}

    @property
    def version(self) -> str:
        return self._known["mail_version"]

    @contextlib.contextmanager
    def running(self, place: Place, mode: Mode, sink_port: int) -> Iterator[Server]:
        port = free_port()
        conf = self._write(place, mode, port, sink_port)
        queue = place.spool
        how = Start(
            command=[find_tool("postfix"), "-c", str(conf), "start-fg"],
            port=port,
            log=place.folder / "postfix.out",
            master=lambda: _master_pid(queue),
        )
        try:
            with running_process(how) as account:
                yield Server(port, account, lambda: _count(queue))
        finally:
            give_back(port)

    def _write(self, place: Place, mode: Mode, port: int, sink_port: int) -> Path:
        conf, data = place.folder / "postfix.etc", place.folder / "postfix.data"
        for folder in (conf, data):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o755)
        owner = pwd.getpwnam(self._known["mail_owner"])
        os.chown(data, owner.pw_uid, owner.pw_gid)
        for log in ("postfix.log", "postfix.out"):
            (place.folder / log).unlink(missing_ok=True)
        main = _MAIN.format(
            commands=self._known["command_directory"],
            daemons=self._known["daemon_directory"],
            meta=self._known["meta_directory"],
            queue=place.spool,
            data=data,
            folder=place.folder,
            domain=DOMAIN,
            data_restrictions="check_client_access static:HOLD" if mode is Mode.ACCEPT else "",
            sink_port=sink_port,
        )
        (conf / "main.cf").write_text(main)
        (conf / "master.cf").write_text(_master(self._services(), port))
        return conf

    def _services(self) -> str:
        places = (self._known["meta_directory"], self._known["config_directory"])
        for folder in places:
            for name in ("master.cf.proto", "master.cf"):
                path = Path(folder, name)
                if path.is_file():
                    return path.read_text()
        raise BenchError(f"no master.cf in {places}")


def _master(services: str, port: int) -> str:
    """Make a master.cf: the stock services, one SMTP server on loopback, nothing in a chroot."""
    lines = [f"{HOST}:{port} inet n - n - - smtpd"]
    wanted = False
    for line in services.split("\n"):
        fields = line.split()
        if line.startswith("#") or not fields:
            continue
        if line[0].isspace():  # goes on with the service above
            if wanted:
                lines.append(line)
            continue
        wanted = fields[1] != "inet" and fields[7] != "pipe"
        if wanted:
            fields[4] = "n"
            lines.append(" ".join(fields))
    if not any(line.startswith("postlog ") for line in lines):
        lines.append("postlog unix-dgram n - n - 1 postlogd")
    return "\n".join(lines) + "\n"


def _postconf(name: str) -> str:
    command = [find_tool("postconf"), "-h", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise BenchError(f"postconf {name}: {done.stderr.strip()}")
    return done.stdout.strip()


def _master_pid(queue: Path) -> int:
    with contextlib.suppress(OSError):
        if found := re.search(r"\d+", (queue / "pid/master.pid").read_text()):
            return int(found[0])
    return 0


def _count(queue: Path) -> int:
    return sum(len(files) for name in _QUEUES for _dir, _dirs, files in os.walk(queue / name))
