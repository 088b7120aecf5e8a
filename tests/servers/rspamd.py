"""Rspamd, which judges signatures, with a name server of a test's own."""

import contextlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from servers.process import free_port, listens, program, start

MODULES = Path("/usr/share/rspamd/plugins")

CHECKS = ("arc", "spf", "dmarc")

Judge = Callable[..., dict[str, list[str]]]


@contextlib.contextmanager
def run_rspamd(folder: Path, nameserver: tuple[str, int]) -> Iterator[Judge]:
    """Run it; gives a function that gives the symbols of a message, with what is said of each.

    The function takes the message, and of its envelope `ip`, `helo` and `sender`.
    """
    rspamd = program("rspamd", "rspamd")
    port = free_port()
    home = folder / "rspamd"
    home.mkdir()
    # the list of all public suffixes takes it ten seconds to compile, and is about links
    (home / "suffixes").write_text("example\norg\n")
    config = home / "rspamd.conf"
    config.write_text(f"""\
options {{
  pidfile = "{home}/pid"; control_socket = "{home}/control mode=0600"; tempdir = "{home}";
  url_tld = "{home}/suffixes"; hs_cache_dir = "{home}"; cache_file = "{home}/symbols";
  history_file = "{home}/history"; stats_file = "{home}/stats"; dynamic_conf = "{home}/dynamic";
  filters = "dkim"; explicit_modules = [{", ".join(f'"{each}"' for each in CHECKS)}];
  local_addrs = []; task_timeout = 8s;
  dns {{ nameserver = ["{nameserver[0]}:{nameserver[1]}"]; timeout = 1s; retransmits = 2; }}
}}
logging {{ type = "console"; level = "info"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
modules {{ {" ".join(f'path = "{MODULES}/{each}.lua";' for each in CHECKS)} }}
dkim {{ }} spf {{ }} dmarc {{ }}
arc {{ sign_inbound = false; sign_local = false; sign_authenticated = false; }}
""")

    def judge(
        raw: bytes, *, ip: str = "203.0.113.9", helo: str = "", sender: str | None = None
    ) -> dict[str, list[str]]:
        headers = {"IP": ip} | ({"Helo": helo} if helo else {})
        headers |= {"From": sender} if sender is not None else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/checkv2", data=raw, headers=headers
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            symbols = json.load(answer)["symbols"]
        return {name: symbol.get("options", []) for name, symbol in symbols.items()}

    argv = [rspamd, "-f", "-i", "-c", config]  # -i: as whoever runs the test
    with start(argv, ready=listens(port), log=home / "log"):
        yield judge
