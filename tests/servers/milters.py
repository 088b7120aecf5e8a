"""Real milters: OpenDKIM, OpenDMARC, Rspamd's proxy, ClamAV's; and Postgrey, a policy server."""

import contextlib
import getpass
import os
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from servers.process import answers, free_port, listens, program, start

# It is asked to negotiate: version 6 of the protocol, all actions, all steps.
_HELLO = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)

_DKIM = """\
Mode sv
Syslog no
Socket inet:{port}@127.0.0.1
Domain {domain}
Selector {selector}
KeyFile {key}
Canonicalization {form}
InternalHosts 127.0.0.1/32
OversignHeaders From
RequireSafeKeys no
AlwaysAddARHeader yes
TestPublicKeys {keys}
"""
_DMARC = """\
Syslog false
Socket inet:{port}@127.0.0.1
AuthservID mail.example.test
TrustedAuthservIDs mail.example.test
IgnoreHosts {ignored}
RejectFailures true
RequiredHeaders true
TestDNSData {names}
"""
_CLAMAV = """\
MilterSocket inet:{port}@127.0.0.1
ClamdSocket tcp:{clamd}
Foreground yes
TemporaryDirectory {home}
OnInfected Reject
OnFail Defer
RejectMsg infected: %v
AddHeader Replace
"""
_RSPAMD = """\
options {{
  pidfile = "{home}/pid"; control_socket = "{home}/control mode=0600"; tempdir = "{home}";
  url_tld = "{home}/suffixes"; hs_cache_dir = "{home}"; cache_file = "{home}/symbols";
  history_file = "{home}/history"; stats_file = "{home}/stats"; dynamic_conf = "{home}/dynamic";
  filters = ""; explicit_modules = []; local_addrs = []; enable_test_patterns = true;
  dns {{ nameserver = ["127.0.0.1:{port}"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "info"; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}"; count = 1; milter = yes; timeout = 10s;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""


@dataclass
class RealMilter:
    """One that runs.

    Attributes:
        port: Where it listens on 127.0.0.1.
        process: It.
    """

    port: int
    process: Popen[bytes]


@contextlib.contextmanager
def _serving(
    argv: list[str | Path], port: int, log: Path, ready: Callable[[], bool] | None = None
) -> Iterator[RealMilter]:
    ready = ready or answers(port, _HELLO, b"\0\0")
    with start(argv, ready=ready, log=log) as process:
        try:
            yield RealMilter(port, process)
        finally:
            with contextlib.suppress(ProcessLookupError):  # a test has killed it
                os.killpg(process.pid, signal.SIGKILL)  # they take their time, and have children


@contextlib.contextmanager
def run_opendkim_milter(
    folder: Path, domain: str, pem: bytes, record: str, *, form: str = "simple", port: int = 0
) -> Iterator[RealMilter]:
    """Run OpenDKIM: mail of 127.0.0.1 is signed by the selector "key", that of others verified."""
    opendkim, port = program("opendkim", "opendkim"), port or free_port()
    folder.mkdir(exist_ok=True)
    key, keys, config = (folder / name for name in ("key", "keys", "opendkim.conf"))
    key.write_bytes(pem)
    keys.write_text(f"key._domainkey.{domain} {record}\n")
    values = {"port": port, "domain": domain, "selector": "key", "key": key, "keys": keys}
    config.write_text(_DKIM.format(form=f"{form}/{form}", **values))
    with _serving([opendkim, "-f", "-x", config], port, folder / "log") as found:
        yield found


@contextlib.contextmanager
def run_opendmarc(folder: Path, records: Mapping[str, str]) -> Iterator[RealMilter]:
    """Run OpenDMARC, which believes what mail.example.test writes, and knows these records."""
    opendmarc, port = program("opendmarc", "opendmarc"), free_port()
    folder.mkdir()
    config, names, ignored = (folder / name for name in ("opendmarc.conf", "names", "ignored"))
    names.write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    ignored.write_text("192.0.2.1\n")
    config.write_text(_DMARC.format(port=port, names=names, ignored=ignored))
    with _serving([opendmarc, "-f", "-c", config], port, folder / "log") as found:
        yield found


@contextlib.contextmanager
def run_rspamd_proxy(folder: Path) -> Iterator[RealMilter]:
    """Run Rspamd as a milter that only knows its own test patterns."""
    rspamd, port = program("rspamd", "rspamd"), free_port()
    folder.mkdir()
    (folder / "suffixes").write_text("example\norg\n")
    config = folder / "rspamd.conf"
    config.write_text(_RSPAMD.format(home=folder, port=port))
    with _serving([rspamd, "-f", "-i", "-c", config], port, folder / "log") as found:
        yield found


@contextlib.contextmanager
def run_clamav_milter(folder: Path, clamd: str) -> Iterator[RealMilter]:
    """Run ClamAV's own milter before the clamd at "127.0.0.1:PORT"."""
    milter, port = program("clamav-milter", "clamav-milter"), free_port()
    folder.mkdir()
    config = folder / "clamav-milter.conf"
    config.write_text(_CLAMAV.format(port=port, clamd=clamd, home=folder))
    with _serving([milter, "-c", config], port, folder / "log") as found:
        yield found


@contextlib.contextmanager
def run_postgrey(folder: Path) -> Iterator[RealMilter]:
    """Run Postgrey, which wants a second to pass before anybody tries again."""
    postgrey, port = program("postgrey", "postgrey"), free_port()
    folder.mkdir()
    user = getpass.getuser()
    argv = [postgrey, f"--inet=127.0.0.1:{port}", f"--dbdir={folder}", "--delay=1"]
    argv += [f"--user={user}", f"--group={user}", "--whitelist-clients=/dev/null"]
    argv += ["--whitelist-recipients=/dev/null"]
    with _serving(argv, port, folder / "log", listens(port)) as found:
        yield found
