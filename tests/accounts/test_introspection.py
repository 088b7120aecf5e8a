"""Tokens that only their provider can read: it is asked, and its answer judged."""

import base64
import contextlib
import json
import socket
import threading
import urllib.request

import pytest
from accounts.desk import PEER
from accounts.provider import AUDIENCE, ISSUER, Pages, key_set, serving, token

from elemta.accounts import Result, fetching
from elemta.accounts.introspection import REMEMBER_FOR, IntrospectionSettings
from elemta.accounts.sasl.bearer import Token
from elemta.accounts.tokens import TokenJudge, TokenSettings
from elemta.testing import FakeClock

GOOD = {"email": "me@example.test"}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def pages():
    return Pages()


@pytest.fixture
def web(pages):
    with serving(pages) as found:
        yield found


@pytest.fixture
async def make_judge(web, clock):
    url, context = web
    judges = []

    def make(client_id="", secret=None, **changes):
        asked = IntrospectionSettings(f"{url}/ask", client_id, secret)
        values = {"issuer": ISSUER, "audience": "", "keys": "", "introspection": asked}
        judges.append(TokenJudge(TokenSettings(**{**values, **changes}), clock, context))
        return judges[-1]

    yield make
    for judge in judges:
        await judge.close()


async def test_a_good_token_and_another(make_judge, pages):
    pages.tokens["opaque"] = GOOD
    judge = make_judge()
    assert await judge.judge("opaque") == Token("me@example.test")
    assert (await judge.judge("other")).fault == "the provider says that the token is not good"
    assert pages.asked_as == [None, None]


async def test_who_asks(make_judge, pages, tmp_path):
    pages.tokens["opaque"] = GOOD
    (tmp_path / "secret").write_text("s:e cret\n")
    judge = make_judge("mail server", tmp_path / "secret")
    assert (await judge.judge("opaque")).login
    [said] = pages.asked_as
    assert base64.b64decode(said.removeprefix("Basic ")) == b"mail+server:s%3Ae+cret"
    (tmp_path / "secret").unlink()
    assert "No such file" in (await judge.judge("other")).trouble


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"email": None}, "has no email"),
        ({"email_verified": False}, "not verified"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "expired"),
        ({"exp": "never"}, "expired"),
        ({"nbf": 1e12}, "not valid yet"),
        ({"scope": "web"}, "does not have the scope"),
        ({"iss": "https://other.example.test"}, "of another issuer"),
        ({"iss": None}, "of another issuer"),
        ({"aud": "web"}, "not made for this server"),
        ({"aud": ["web"]}, "not made for this server"),
        ({"aud": {AUDIENCE: 1}}, "not made for this server"),
        ({"aud": None}, "not made for this server"),
    ],
)
async def test_answers_that_are_not_good_enough(make_judge, pages, clock, claims, fault):
    full = {**GOOD, "iss": ISSUER, "aud": ["web", AUDIENCE], "scope": "smtp web"}
    pages.tokens["opaque"] = {**full, "exp": clock.now() + 60}
    pages.tokens["bad"] = {**full, **claims}
    judge = make_judge(audience=AUDIENCE, scope="smtp")
    assert (await judge.judge("opaque")).login
    found = await judge.judge("bad")
    assert (found.login, found.trouble) == ("", "")
    assert fault in found.fault


async def test_a_good_token_is_remembered_for_a_while_and_never_after_its_end(
    make_judge, pages, clock
):
    pages.tokens["long"] = GOOD
    pages.tokens["short"] = {**GOOD, "exp": clock.now() + 10}
    judge = make_judge()
    for _ in range(2):
        assert (await judge.judge("long")).login
        assert (await judge.judge("short")).login
    assert len(pages.asked) == 2
    pages.tokens.clear()  # revoked
    clock.advance(REMEMBER_FOR - 1)
    assert (await judge.judge("long")).login
    assert "expired" in (await judge.judge("short")).fault
    assert len(pages.asked) == 2
    clock.advance(1)
    assert not (await judge.judge("long")).login
    assert len(pages.asked) == 3


async def test_keys_go_first(make_judge, pages, clock, tmp_path):
    (tmp_path / "keys").write_text(json.dumps(key_set("ES256")))
    judge = make_judge(keys=str(tmp_path / "keys"), audience=AUDIENCE)
    assert (await judge.judge(token(clock.now()))).login
    assert "expired" in (await judge.judge(token(1))).fault
    assert pages.asked == []
    by_another_key = token(clock.now(), "RS256")
    pages.tokens[by_another_key] = {**GOOD, "aud": AUDIENCE}
    assert (await judge.judge(by_another_key)).login
    assert pages.asked == ["/ask"]


@pytest.mark.parametrize(
    "page",
    [
        (401, b'{"active": true, "email": "me@example.test"}', {}),
        (500, b"", {}),
        (302, b"", {"Location": "/ask2"}),
        (200, b" " * 70_000, {}),
        (200, b"<html>", {}),
        (200, b"[true]", {}),
        (200, b"\xff\xfe", {}),
        (200, b'{"email": "me@example.test"}', {}),
        (200, b'{"active": "true", "email": "me@example.test"}', {}),
        (200, b'{"active": 1, "email": "me@example.test"}', {}),
    ],
)
async def test_what_is_no_answer_is_trouble(make_judge, pages, page):
    pages.pages["/ask"] = page
    found = await make_judge().judge("opaque")
    assert (found.login, found.fault) == ("", "")
    assert "/ask: " in found.trouble
    assert pages.asked == ["/ask"]


def test_an_answer_without_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(fetching, "WHOLE_TIMEOUT", 0.1)
    done = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 Ok\r\n\r\n")
            while not done.wait(0.02):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            with pytest.raises(TimeoutError):
                fetching.fetch(urllib.request.Request(url), 10_000, None)
        finally:
            done.set()
            thread.join()


async def test_a_provider_that_cannot_be_reached(clock, make_desk):
    asked = IntrospectionSettings("http://127.0.0.1:1/ask")
    tokens = TokenSettings(ISSUER, "", "", introspection=asked)
    desk = make_desk(tokens=tokens)
    desk.add("me@example.test")
    exchange = desk.auth.begin("XOAUTH2", PEER)
    claim = await exchange.respond(b"user=me@example.test\x01auth=Bearer opaque\x01\x01")
    verdict = await desk.auth.judge(claim, PEER)
    assert verdict.result is Result.DOWN
    assert "Connection refused" in verdict.reason
