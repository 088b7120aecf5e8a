"""The commands on a server that runs, started from its configuration file."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from servers.elemta import Elemta

FROM = ("--from", "a@example.test")


@pytest.fixture
def server(tmp_path):
    elemta = Elemta(tmp_path, workers=2)
    yield elemta
    elemta.kill()


def listed(server: Elemta, *arguments: str) -> list[dict[str, object]]:
    return json.loads(server.cli("queue", "list", *arguments, "--json").stdout)


def test_send_look_and_order(server):
    server.start()
    sent = server.cli("send", *FROM, "--to", "b@example.test", "--body", "hi", "--json")
    assert json.loads(sent.stdout)["reply"]["code"] == 250
    assert b"\r\nhi\r\n" in server.wait_mail("b")[0]

    ids = set()
    for name in ("x", "y", "z"):
        sent = server.cli("send", *FROM, "--to", f"{name}@else.test", "--body", name, "--json")
        ids.add(json.loads(sent.stdout)["queue_id"])
    assert {message["queue_id"] for message in listed(server, "--state", "hold")} == ids
    content = server.cli("queue", "show", min(ids), "--content").stdout
    assert content.startswith("Received: ")
    assert json.loads(server.cli("queue", "stats", "--json").stdout)["recipients"] == {"hold": 3}

    done = server.cli("queue", "delete", "--recipient", "x@*", "--yes", "--json")
    assert json.loads(done.stdout)["changed"] == 1
    assert len(listed(server)) == 2
    server.wait_event("state_changed", recipient="x@else.test", after="deleted")

    refused = server.cli("send", "--from", "<>", "--to", "b@example.test@x", check=False)
    assert refused.returncode == 2
    assert server.cli("check").returncode == 0  # its own ports are not another's

    # a second server must not touch the first one's mail
    second = server.cli("serve", check=False)
    assert second.returncode == 1
    assert "in use by another server" in second.stderr

    # at rest the same orders work
    assert server.stop() == 0
    assert len(listed(server)) == 2
    done = server.cli("queue", "release", "--all", "--json")
    assert json.loads(done.stdout)["changed"] == 2
    assert [m["recipients"][0]["state"] for m in listed(server)] == ["active", "active"]
    assert (
        server.cli("send", *FROM, "--to", "b@example.test", "--body", "x", check=False).returncode
        == 75
    )


def test_a_configuration_with_errors_does_not_start(server):
    server.write_config()
    text = server.config.read_text()
    server.config.write_text(
        text.replace("workers = 2", "wrokers = 2") + "\n[queue]\nmax_age = 0\n"
    )
    done = server.cli("serve", check=False)
    assert done.returncode == 1
    assert "wrokers: unknown setting; did you mean workers?" in done.stderr
    assert "[queue] max_age: 0: more than 0s is expected" in done.stderr
    assert not server.state.exists()
    done = server.cli("serve", "--json", check=False)
    assert len(json.loads(done.stdout)["problems"]) == 2


def test_a_port_in_use_does_not_start(server, tmp_path):
    server.start()
    other = tmp_path / "other.toml"
    other.write_text(server.config.read_text().replace(str(server.state), str(tmp_path / "var2")))
    done = subprocess.run(
        [*server.command, "serve", "-c", str(other)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.stderr


def test_settings_by_variables(server, monkeypatch):
    monkeypatch.setenv("ELEMTA_SERVER__MAX_MESSAGE_SIZE", "2KB")
    server.start()
    large = Path(server.folder / "large.eml")
    large.write_text("Subject: large\n\n" + "x" * 70 + "\n" + ("y" * 70 + "\n") * 40)
    done = server.cli("send", *FROM, "--to", "b@example.test", str(large), check=False)
    assert done.returncode == 69
    assert done.stdout.startswith("552 5.3.4")
    assert "ELEMTA_SERVER__MAX_MESSAGE_SIZE" in os.environ
