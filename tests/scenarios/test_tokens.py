"""Logins by tokens that the running server asks a provider about."""

import json
from base64 import b64decode, b64encode

import pytest
from accounts.provider import ISSUER, Pages, serving
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.logins import add_user, submission

REST = """
[auth]
mechanisms = ["OAUTHBEARER"]
scram_iterations = 0
argon2 = {{ memory = "8MiB", passes = 1 }}
[auth.oauth]
issuer = "ISSUER"
introspection = "URL/ask"
client_id = "mail"
client_secret_file = "secret"
[[auth.sources]]
type = "sqlite"
[limits]
auth_rate = "3/h"
"""


@pytest.fixture
def pages():
    return Pages()


@pytest.fixture
def server(tmp_path, pages):
    folder = tmp_path / "elemta"
    folder.mkdir()
    (folder / "secret").write_text("canary-of-the-client")
    port, listeners = submission()
    rest = MAILDIR.replace("[relay]", "[relay]\ntrusted_networks = []")
    with serving(pages, tls=False) as (url, _):
        rest += REST.replace("ISSUER", ISSUER).replace("URL", url)
        with running(folder, rest=rest, listeners=listeners) as server:
            add_user(server, "me@example.test")
            server.submission = port
            yield server


def ask(server, source: str, token: str) -> str:
    """Say who one is; a refusal is not acknowledged."""
    form = f"n,a=me@example.test,\x01auth=Bearer {token}\x01\x01"
    with Dialogue(server.submission, source=source) as client:
        client.hello()
        return client.say(f"AUTH OAUTHBEARER {b64encode(form.encode()).decode()}")


def test_a_provider_is_asked(server, pages):
    pages.tokens["opaque-canary"] = {"email": "me@example.test"}
    assert ask(server, "127.0.1.1", "opaque-canary") == "235 2.7.0 Authentication succeeded"
    refused = ask(server, "127.0.1.1", "unknown")
    assert json.loads(b64decode(refused.removeprefix("334 ")))["status"] == "invalid_token"
    pages.pages["/ask"] = (500, b"", {})
    assert ask(server, "127.0.1.1", "another") == "454 4.7.0 Temporary authentication failure"
    assert {b64decode(each.split()[1]) for each in pages.asked_as} == {b"mail:canary-of-the-client"}
    server.wait_event("auth_failed")
    assert "canary" not in server.log_file.read_text()


def test_who_never_acknowledges_a_refusal_is_limited_all_the_same(server):
    said = [ask(server, "127.0.1.2", f"guess{number}")[:9] for number in range(4)]
    assert [each[:4] for each in said[:3]] == ["334 "] * 3
    assert said[3] == "421 4.7.0"
