"""Rspamd as a filter: it knows its test pattern, and does what subjects of a test ask for.

No module is on and nothing is looked up: it starts at once.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.process import answers, free_port, program, start
from servers.rspamd import PING

MODULES = Path("/usr/share/rspamd/plugins")

_LUA = """
rspamd_config:register_symbol({ name = 'ASKED_FOR', type = 'prefilter', callback = function(task)
  local asked = tostring(task:get_header('Subject') or '')
  if asked:find('^soft') then task:set_pre_result('soft reject', 'Come back later', 'asked') end
  if asked:find('^doubtful') then task:insert_result('DOUBT', 1.0) end
  if asked:find('^grey') then task:set_pre_result('greylist', '', 'asked') end
  if asked:find('^rewrite') then
    task:set_metric_subject('[spam] ' .. asked)
    task:set_pre_result('rewrite subject', '', 'asked')
  end
  if asked:find('^edits') then
    task:set_milter_reply({
      add_headers = { ['X-Added'] = { value = 'one\\n\\ttwo', order = 0 }, ['X-Last'] = 'end' },
      remove_headers = { ['X-Old'] = 0, ['X-Many'] = -1 },
    })
  end
  local facts = {
    'ip=' .. tostring(task:get_from_ip()), 'helo=' .. tostring(task:get_helo()),
    'from=' .. tostring((task:get_from('smtp') or { {} })[1].addr),
    'rcpt=' .. tostring(#(task:get_recipients('smtp') or {})),
    'user=' .. tostring(task:get_user()), 'id=' .. tostring(task:get_queue_id()),
    'host=' .. tostring(task:get_hostname()), 'size=' .. tostring(task:get_size()),
    'mta=' .. tostring(task:get_request_header('MTA-Name')),
    'settings=' .. tostring(task:get_request_header('Settings-ID')),
    'for=' .. tostring((task:get_principal_recipient() or '')),
    'tls=' .. tostring(task:get_request_header('TLS-Version')),
    'cipher=' .. tostring(task:get_request_header('TLS-Cipher')),
    'password=' .. tostring(task:get_request_header('Password')),
  }
  task:insert_result('FACTS', 1.0, facts)
  if asked:find('^facts') then
    task:set_milter_reply({ add_headers = { ['X-Facts'] = table.concat(facts, ' ') } })
  end
end })
rspamd_config:set_metric_symbol({ name = 'FACTS', score = 1.0 })
rspamd_config:set_metric_symbol({ name = 'DOUBT', score = 4.0 })
"""


@dataclass(frozen=True)
class RspamdFilter:
    """A running one: "127.0.0.1:PORT", and its process."""

    address: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def run_rspamd_filter(folder: Path, redis: str = "") -> Iterator[RspamdFilter]:
    """Run it; with a Redis ("127.0.0.1:PORT") it remembers whom it has sent away, for a second."""
    rspamd = program("rspamd", "rspamd")
    port, home = free_port(), folder / "rspamd-filter"
    home.mkdir()
    (home / "suffixes").write_text("example\norg\n")  # the whole list takes it ten seconds
    (home / "asked.lua").write_text(_LUA)
    module = ""
    if redis:
        module = f'modules {{ path = "{MODULES}/greylist.lua"; }}\n'
        module += f'greylist {{ timeout = 1s; check_local = true; servers = "{redis}"; }}'
    config = home / "rspamd.conf"
    config.write_text(f"""\
options {{
  pidfile = "{home}/pid"; control_socket = "{home}/control mode=0600"; tempdir = "{home}";
  url_tld = "{home}/suffixes"; hs_cache_dir = "{home}"; cache_file = "{home}/symbols";
  history_file = "{home}/history"; stats_file = "{home}/stats"; dynamic_conf = "{home}/dynamic";
  filters = ""; explicit_modules = ["greylist"]; local_addrs = []; task_timeout = 8s;
  enable_test_patterns = true;
  dns {{ nameserver = ["127.0.0.1:{port}"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "info"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
{module}
lua = "{home}/asked.lua";
""")
    argv = [rspamd, "-f", "-i", "-c", config]  # -i: as whoever runs the test
    ready = answers(port, PING, b"HTTP/1.1 200")
    with start(argv, ready=ready, log=home / "log") as process:
        yield RspamdFilter(f"127.0.0.1:{port}", process)
