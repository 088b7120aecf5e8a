"""Rspamd, which judges signatures, with a name server of a test's own."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.process import answers, free_port, program, start

MODULES = Path("/usr/share/rspamd/plugins")
PING = b"GET /ping HTTP/1.0\r\n\r\n"

CHECKS = ("arc", "spf", "dmarc")
_SIGNING = """\
dkim_signing {{ {how} use_milter_headers = true; }}
arc {{ {how} sign_inbound = false; }}
"""
_HOW = """path = "{key}"; selector = "{selector}"; use_esld = false; sign_local = false;
  sign_authenticated = true; allow_username_mismatch = true;"""
_NO_SIGNING = "arc { sign_inbound = false; sign_local = false; sign_authenticated = false; }\n"


@dataclass(frozen=True)
class Rspamd:
    """A running one.

    Attributes:
        port: Of its worker that judges messages.
    """

    port: int

    def __call__(
        self, raw: bytes, *, ip: str = "203.0.113.9", helo: str = "", sender: str | None = None
    ) -> dict[str, list[str]]:
        """The symbols of a message, with what is said of each."""
        headers = {"IP": ip} | ({"Helo": helo} if helo else {})
        headers |= {"From": sender} if sender is not None else {}
        symbols = self._ask(raw, headers)["symbols"]
        return {name: symbol.get("options", []) for name, symbol in symbols.items()}

    def sign(self, raw: bytes, *names: str) -> bytes:
        """The message of a user, with those fields of these names before it that it adds."""
        added = self._ask(raw, {"IP": "203.0.113.9", "User": "ann"})["milter"]["add_headers"]
        fields = [f"{name}: {added[name]['value']}".split("\n") for name in names]
        lines = [line.removesuffix("\r") + "\r\n" for field in fields for line in field]
        return "".join(lines).encode() + raw

    def _ask(self, raw: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/checkv2", data=raw, headers=dict(headers)
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)


@contextlib.contextmanager
def run_rspamd(
    folder: Path, nameserver: tuple[str, int], *, selector: str = "", secret: bytes = b""
) -> Iterator[Rspamd]:
    """Run it; with a key it can sign and seal for the domain in From, whichever it is.

    The key is PEM of RSA, or the octets of an Ed25519 key as base64.
    """
    rspamd = program("rspamd", "rspamd")
    port = free_port()
    home = folder / "rspamd"
    home.mkdir()
    # the list of all public suffixes takes it ten seconds to compile, and is about links
    (home / "suffixes").write_text("example\norg\n")
    modules, signing = CHECKS, _NO_SIGNING
    if secret:
        key = home / "signing.key"  # with a dot: it may take a path for base64
        key.write_bytes(secret)
        modules = (*CHECKS, "dkim_signing")
        signing = _SIGNING.format(how=_HOW.format(key=key, selector=selector))
    config = home / "rspamd.conf"
    config.write_text(f"""\
options {{
  pidfile = "{home}/pid"; control_socket = "{home}/control mode=0600"; tempdir = "{home}";
  url_tld = "{home}/suffixes"; hs_cache_dir = "{home}"; cache_file = "{home}/symbols";
  history_file = "{home}/history"; stats_file = "{home}/stats"; dynamic_conf = "{home}/dynamic";
  filters = "dkim"; explicit_modules = [{", ".join(f'"{each}"' for each in modules)}];
  local_addrs = []; task_timeout = 18s;
  dns {{ nameserver = ["{nameserver[0]}:{nameserver[1]}"]; timeout = 5s; retransmits = 3; }}
}}
logging {{ type = "console"; level = "info"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
modules {{ {" ".join(f'path = "{MODULES}/{each}.lua";' for each in modules)} }}
dkim {{ }} spf {{ }} dmarc {{ }}
{signing}""")
    argv = [rspamd, "-f", "-i", "-c", config]  # -i: as whoever runs the test
    with start(argv, ready=answers(port, PING, b"HTTP/1.1 200"), log=home / "log"):
        yield Rspamd(port)
