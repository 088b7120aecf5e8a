"""No password comes out of the room, whatever happens to it."""

import base64
import logging

import msgspec
import pytest
from accounts.desk import BOUND, PEER

from elemta.accounts import Claim, MalformedResponse, Peer, Result, SourceDown
from elemta.accounts.app_passwords import make_secret
from elemta.accounts.prepare import PrepareError, prepare_login, prepare_password
from elemta.accounts.registers import PasswdRegister

CANARY = "canary-7h3-p455w0rd"


def shapes_of(secret: str) -> list[str]:
    return [secret, base64.b64encode(secret.encode()).decode().rstrip("="), secret.encode().hex()]


@pytest.fixture
def told(desk, caplog):
    """All that has been said; the test fails where it has a password in it."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    yield said
    said += [record.getMessage() for record in caplog.records]
    said += [repr(event) + msgspec.json.encode(event).decode() for event in desk.events]
    everything = "\n".join(said)
    assert "canary" not in everything.lower()
    for shape in shapes_of(CANARY):
        assert shape not in everything


async def finish(desk, told, exchange, peer, *responses):
    try:
        answer = None
        for response in responses:
            answer = await exchange.respond(response)
            told.append(repr(answer))
            if isinstance(answer, Claim):
                break
        if isinstance(answer, Claim):
            verdict = await desk.auth.judge(answer, peer)
            told.append(repr(verdict))
            return verdict.result
    except MalformedResponse as error:
        told.append(repr(error))
    return None


@pytest.mark.parametrize("state", ["right", "wrong", "unknown", "locked", "down", "busy"])
async def test_plain_and_login(desk, told, state):
    if state != "unknown":
        desk.add("me", "hunter2" if state == "wrong" else CANARY, is_locked=state == "locked")
    if state == "down":
        desk.register.trouble = "gone"
    if state == "busy":
        desk.auth._workshop._room = 0
    results = set()
    plain = b"\0me\0" + CANARY.encode()
    results.add(await finish(desk, told, desk.auth.begin("PLAIN", PEER), PEER, plain))
    login = (None, b"me", CANARY.encode())
    results.add(await finish(desk, told, desk.auth.begin("LOGIN", PEER), PEER, *login))
    if state == "busy":
        desk.auth._workshop._room = 1
    expected = {"right": Result.OK, "down": Result.DOWN, "busy": Result.DOWN}
    assert results == {expected.get(state, Result.WRONG)}


@pytest.mark.parametrize(
    ("mechanism", "responses"),
    [
        ("PLAIN", [b"\0me\0" + CANARY.encode() + b"\0"]),
        ("PLAIN", [CANARY.encode()]),
        ("PLAIN", [b"\0me\0" + CANARY.encode() + b"\xff"]),
        ("LOGIN", [b"me", CANARY.encode() + b"\0"]),
        ("SCRAM-SHA-256", [b"n,,n=me,p=" + CANARY.encode()]),
        ("SCRAM-SHA-256-PLUS", [b"p=tls-exporter,,n=me,r=x", CANARY.encode()]),
        ("LOGIN", [None, b"me", b""]),
    ],
)
async def test_what_is_malformed(desk, told, mechanism, responses):
    desk.add("me", CANARY)
    exchange = desk.auth.begin(mechanism, BOUND)
    assert await finish(desk, told, exchange, BOUND, *responses) is None
    assert any("MalformedResponse" in each for each in told)


async def test_records_and_files(desk, told, tmp_path):
    desk.add("me", CANARY)
    desk.change("me", secret=CANARY)
    record = desk.register.find("me")
    told.append(repr(record))
    for kept in (record.password_hash, record.scram.stored_key.hex()):
        assert kept not in repr(record)
    path = tmp_path / "accounts"
    path.touch(mode=0o600)
    for text in (f"me:{CANARY}", f"me::::::: secret={CANARY} scram={CANARY}", CANARY):
        path.write_text(text)
        with pytest.raises(SourceDown) as caught:
            PasswdRegister(path).find("me")
        told.append(str(caught.value))


def test_errors_about_names_and_passwords(told):
    for prepare in (prepare_login, prepare_password):
        with pytest.raises(PrepareError) as caught:
            prepare(f"{CANARY}\0")
        told.append(str(caught.value))


async def test_app_passwords(desk):
    secret = make_secret()
    claim = Claim("PLAIN", "me", password=secret)
    desk.add("me", "hunter2")
    assert secret not in repr(claim) + repr(await desk.auth.judge(claim, PEER))


def test_bindings_are_not_shown():
    assert "deadbeef" not in repr(Peer("192.0.2.1", tls_exporter=b"deadbeef"))
