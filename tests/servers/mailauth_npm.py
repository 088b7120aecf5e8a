"""The npm package mailauth, which judges, signs and seals whole messages; one process for many."""

import base64
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from servers.process import program

NODE_MODULES = Path(__file__).parents[2] / ".venv" / "judges"
SCRIPT = Path(__file__).parent / "node" / "mailauth.js"

Zone = Mapping[str, Mapping[str, Sequence[Any]] | None]


def request(task: str, raw: bytes, **more: Any) -> dict[str, Any]:
    """What `ask` takes: judge (ip, helo, sender), sign (keys, form), or seal (key, results).

    A key is `{"signingDomain": ..., "selector": ..., "privateKey": PEM, "algorithm": ...}`.
    """
    return {"task": task, "raw": base64.b64encode(raw).decode(), **more}


def ask(folder: Path, zone: Zone, requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put all requests to it, with the DNS in a file of this folder; gives its answers.

    The zone is that of a `FakeResolver`; None in it cannot be looked up.
    """
    node = program("node", "nodejs")
    if not (NODE_MODULES / ".installed").exists():
        message = "the npm package mailauth is not installed: .ci/install-judges"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    dns = folder / "dns.json"
    dns.write_text(json.dumps({name: _translate(zone, name) for name in zone}))
    asked = [json.dumps(each) for each in requests]
    done = subprocess.run(
        [node, SCRIPT, NODE_MODULES, dns],
        input="\n".join(asked) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(asked), done.stderr
    assert not [each["error"] for each in answers if "error" in each]
    return answers


def _translate(zone: Zone, name: str) -> dict[str, list[Any]] | None:
    """The records of a name as `dns.promises.resolve` gives them; aliases are followed."""
    records = zone.get(name, {})
    while records is not None and "CNAME" in records:
        records = zone.get(records["CNAME"][0], {})
    if records is None:
        return None
    return {rdtype: [_record(rdtype, each) for each in found] for rdtype, found in records.items()}


def _record(rdtype: str, value: Any) -> Any:
    if rdtype == "TXT":
        return [value.decode("latin-1") if isinstance(value, bytes) else value]
    if rdtype == "MX":
        return {"priority": value[0], "exchange": value[1]}
    return value
