"""The controller of Rspamd, and its statistics in a Redis: it learns what it is given."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from servers.process import answers, free_port, program, start
from servers.rspamd import PING


@contextlib.contextmanager
def run_learner(folder: Path, redis: str, password: str) -> Iterator[int]:
    """Run it with a Redis ("127.0.0.1:PORT"); gives the port of its controller."""
    rspamd = program("rspamd", "rspamd")
    port, home = free_port(), folder / "rspamd-learner"
    home.mkdir()
    (home / "suffixes").write_text("example\norg\n")  # the whole list takes it ten seconds
    config = home / "rspamd.conf"
    config.write_text(f"""\
options {{
  pidfile = "{home}/pid"; control_socket = "{home}/control mode=0600"; tempdir = "{home}";
  url_tld = "{home}/suffixes"; hs_cache_dir = "{home}"; cache_file = "{home}/symbols";
  history_file = "{home}/history"; stats_file = "{home}/stats"; dynamic_conf = "{home}/dynamic";
  filters = ""; local_addrs = []; dns {{ nameserver = ["127.0.0.1:{port}"]; timeout = 0.1s; }}
}}
logging {{ type = "console"; level = "info"; }}
worker "controller" {{
  bind_socket = "127.0.0.1:{port}"; count = 1; secure_ip = []; password = "{password}";
  enable_password = "{password}";
}}
classifier "bayes" {{
  tokenizer {{ name = "osb"; }}
  backend = "redis"; servers = "{redis}"; min_tokens = 1; min_learns = 1;
  statfile {{ symbol = "BAYES_HAM"; spam = false; }}
  statfile {{ symbol = "BAYES_SPAM"; spam = true; }}
}}
""")
    argv = [rspamd, "-f", "-i", "-c", config]  # -i: as whoever runs the test
    with start(argv, ready=answers(port, PING, b"HTTP/1.1 200"), log=home / "log"):
        yield port
