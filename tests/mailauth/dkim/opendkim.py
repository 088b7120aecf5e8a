"""OpenDKIM, which judges the signatures of files, with keys from a file."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from servers.process import program

_CONFIG = "Mode v\nSyslog no\nTestPublicKeys {keys}\n"
_STATUS = re.compile(r"(?m)(?:^\t|; )dkim=(\w+)")


def judge_files(
    folder: Path, messages: Sequence[bytes], records: Mapping[str, bytes]
) -> list[list[str]]:
    """The status of each signature of each message ("permerror" of one that has no From)."""
    opendkim = program("opendkim", "opendkim")
    folder.mkdir()
    keys, config = folder / "keys", folder / "opendkim.conf"
    keys.write_bytes(b"".join(b"%b %b\n" % (name.encode(), text) for name, text in records.items()))
    config.write_text(_CONFIG.format(keys=keys))
    verdicts = []
    for number, raw in enumerate(messages):
        file = folder / str(number)
        file.write_bytes(raw)
        argv = [opendkim, "-f", "-x", config, "-t", file, "-v", "-v"]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
        assert "mlfi_eom() returned" in done.stderr, done
        verdicts.append(_STATUS.findall(done.stdout))
    return verdicts
