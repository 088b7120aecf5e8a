"""An independent reader of DMARC reports."""

import json
import os
import subprocess
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[2] / ".venv" / "reports" / "bin" / "python"
CODE = """
import json, sys
import parsedmarc
found = parsedmarc.parse_report_file(sys.argv[1], offline=True)
print(json.dumps(found))
"""


def read_report(path: Path) -> dict:
    """Read a report, or a mail with one, as parsedmarc does."""
    if not PYTHON.exists():
        message = "parsedmarc is not installed: make .venv/reports/.installed"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    done = subprocess.run(
        [PYTHON, "-c", CODE, path], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # what it finds strange
    found = json.loads(done.stdout)
    assert found["report_type"] == "aggregate"
    return found["report"]
