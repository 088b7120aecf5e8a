"""Tokens: only those of the issuer, for us, unexpired, signed with its keys."""

import base64
import hmac
import json
import re

import pytest
from accounts.desk import PEER
from accounts.provider import (
    AUDIENCE,
    ISSUER,
    KEYS,
    WEAK,
    Pages,
    jwk,
    key_set,
    serving,
    token,
    unsigned,
)
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from elemta.accounts import Challenge, Claim, MalformedResponse, Result
from elemta.accounts.sasl.bearer import Bearer, Token
from elemta.accounts.tokens import TokenJudge, TokenSettings, _parse
from elemta.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(key_set()))
    return path


@pytest.fixture
def make_judge(clock, keys):
    def make(**changes):
        values = {"issuer": ISSUER, "audience": AUDIENCE, "keys": str(keys)}
        return TokenJudge(TokenSettings(**{**values, **changes}), clock)

    return make


@pytest.mark.parametrize("algorithm", KEYS)
async def test_good_tokens(make_judge, clock, algorithm):
    text = token(clock.now(), algorithm)
    assert await make_judge().judge(text) == Token("me@example.test")
    assert await make_judge(claim="sub").judge(text) == Token("4711")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"iss": "https://other.example.test"}, "InvalidIssuerError"),
        ({"iss": None}, "MissingRequiredClaimError"),
        ({"aud": "web"}, "InvalidAudienceError"),
        ({"aud": None}, "MissingRequiredClaimError"),
        ({"exp": None}, "MissingRequiredClaimError"),
        ({"email": None}, "has no email"),
        ({"email": ["me@example.test"]}, "has no email"),
        ({"email_verified": False}, "not verified"),
        ({"exp": "never"}, "expired"),
        ({"exp": float("inf")}, "expired"),
        ({"exp": float("nan")}, "expired"),
        ({"nbf": "now"}, "not valid yet"),
        ({"aud": {"mail": 1}}, "the token is not valid"),
    ],
)
async def test_claims_that_are_not_good(make_judge, clock, changes, fault):
    found = await make_judge().judge(token(clock.now(), **changes))
    assert found.login == ""
    assert fault in found.fault


async def test_times(make_judge, clock):
    judge, now = make_judge(), clock.now()
    text = token(now, exp=now + 100, nbf=now + 30)
    assert (await judge.judge(text)).login
    clock.set(now - 31)
    assert (await judge.judge(text)).fault == "the token is not valid yet"
    clock.set(now + 159)
    assert (await judge.judge(text)).login
    clock.set(now + 160)
    assert (await judge.judge(text)).fault == "the token has expired"


async def test_a_scope_that_is_wanted(make_judge, clock):
    judge = make_judge(scope="smtp")
    assert (await judge.judge(token(clock.now(), scope="openid smtp"))).login
    for scope in (None, "", "smtps", "imap", ["smtp"]):
        assert not (await judge.judge(token(clock.now(), scope=scope))).login


async def test_signatures_that_are_not_good(make_judge, clock):
    judge, now = make_judge(), clock.now()
    good = token(now)
    head, body, signature = good.split(".")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 300, "email": "me@example.test"}
    public = (
        KEYS["RS256"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )

    mac_head = unsigned({"alg": "HS256", "kid": "RS256"}, claims).rsplit(".", 1)[0]
    mac = hmac.digest(public, mac_head.encode(), "sha256")
    for text in (
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        unsigned({"alg": "none", "kid": "ES256"}, claims),
        unsigned({"alg": "none"}, claims),
        unsigned({"alg": "HS256", "kid": "RS256"}, claims, mac),
        token(now, "ES256", KEYS["ES256"], kid="RS256"),
        token(now, "RS256", WEAK["short"], kid="RS256"),
        token(now, "EdDSA", kid="nobody's"),
        token(now, kid=None),
    ):
        assert (await judge.judge(text)).login == ""


@pytest.mark.parametrize(
    "text", ["", "x", "a.b.c", "....", "é", "A" * 20_000, "W" * 12_000 + ".e30.", "W1tb" * 3000]
)
async def test_what_are_no_tokens(make_judge, text):
    found = await make_judge().judge(text)
    assert found.login == ""
    assert found.fault


async def test_nested_without_end(make_judge):

    deep = base64.urlsafe_b64encode(b"[" * 9000).decode()
    assert (await make_judge().judge(f"{deep}.e30.")).fault == "it is no token"


async def test_keys_that_are_not_used(make_judge, clock, keys):
    found = key_set("short", "p384")
    found["keys"].append(jwk(KEYS["ES256"], "for encryption", use="enc"))
    found["keys"].append({"kty": "oct", "k": "c2VjcmV0", "kid": "mac", "alg": "HS256"})
    found["keys"].append(jwk(KEYS["RS256"], "RS256"))
    keys.write_text(json.dumps(found))
    judge, now = make_judge(), clock.now()
    assert (await judge.judge(token(now, "RS256"))).login
    for text in (
        token(now, "RS256", WEAK["short"], kid="short"),
        token(now, "ES256", kid="for encryption"),
        token(now, kid="mac"),
    ):
        assert (await judge.judge(text)).fault == "the token is signed with an unknown key"


JUNK = st.sampled_from([None, 1, "", "AAAA", "!!", "é", [], {}, "P-521", "RSA", "EC", "OKP", "enc"])
NAMES = st.sampled_from(
    ["kty", "crv", "x", "y", "n", "e", "k", "d", "alg", "use", "kid", "key_ops"]
)


@given(st.sampled_from(list(KEYS)), st.dictionaries(NAMES, JUNK, max_size=4), NAMES)
def test_junk_in_a_set_does_no_harm(name, changes, missing):
    item = {**jwk(KEYS[name], name), **changes}
    item.pop(missing, None)
    good = jwk(KEYS["ES256"], "good")
    assert "good" in _parse(json.dumps({"keys": [item, good]}).encode())


async def test_one_key_needs_no_name(make_judge, clock, keys):
    keys.write_text(json.dumps(key_set("ES256")))
    assert (await make_judge().judge(token(clock.now(), kid=None))).login


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": []}', '{"keys": 1}', "[" * 100_000])
async def test_sets_that_are_none(make_judge, clock, keys, text):
    keys.write_text(text)
    found = await make_judge().judge(token(clock.now()))
    assert (found.login, found.fault) == ("", "")
    assert "no set of keys" in found.trouble


async def test_keys_that_cannot_be_read_are_trouble_until_they_can(make_judge, clock, keys):
    text = keys.read_text()
    keys.unlink()
    judge = make_judge()
    long = token(clock.now() + 4000)
    found = await judge.judge(long)
    assert (found.login, found.fault) == ("", "")
    assert "No such file" in found.trouble
    keys.write_text(text)
    assert (await judge.judge(long)).trouble, "it does not try more than once a minute"
    clock.advance(60)
    assert (await judge.judge(long)).login


async def test_keys_are_renewed_and_outlive_an_outage(make_judge, clock, keys):
    judge = make_judge()
    assert (await judge.judge(token(clock.now()))).login
    keys.unlink()
    clock.advance(23 * 3600)
    assert (await judge.judge(token(clock.now()))).login
    clock.advance(3600)
    assert (await judge.judge(token(clock.now()))).trouble
    keys.write_text(json.dumps(key_set("RS256")))
    clock.advance(60)
    assert (await judge.judge(token(clock.now(), "RS256"))).login
    assert (await judge.judge(token(clock.now(), "ES256"))).fault


async def test_a_new_key_is_looked_for_once_a_minute(make_judge, clock, keys):
    keys.write_text(json.dumps(key_set("RS256")))
    judge = make_judge()
    assert not (await judge.judge(token(clock.now(), "EdDSA"))).login
    keys.write_text(json.dumps(key_set()))
    assert not (await judge.judge(token(clock.now(), "EdDSA"))).login
    clock.advance(60)
    assert (await judge.judge(token(clock.now(), "EdDSA"))).login


async def test_a_new_key_while_keys_cannot_be_read_is_not_a_bad_token(make_judge, clock, keys):
    keys.write_text(json.dumps(key_set("RS256")))
    judge = make_judge()
    assert (await judge.judge(token(clock.now(), "RS256"))).login
    keys.unlink()
    clock.advance(60)
    found = await judge.judge(token(clock.now(), "EdDSA"))
    assert (found.login, found.fault) == ("", "")
    assert "No such file" in found.trouble
    assert (await judge.judge(token(clock.now(), "RS256"))).login


class TestFetching:
    @pytest.fixture
    def pages(self):
        return Pages()

    @pytest.fixture
    def web(self, pages):
        pages.pages["/keys"] = (200, json.dumps(key_set()).encode(), {})
        with serving(pages) as (url, context):
            yield url, context

    def judge(self, web, clock, path="/keys"):
        url, context = web
        return TokenJudge(TokenSettings(ISSUER, AUDIENCE, url + path), clock, context)

    async def test_by_https(self, web, pages, clock):
        judge = self.judge(web, clock)
        for algorithm in KEYS:
            assert (await judge.judge(token(clock.now(), algorithm))).login
        assert pages.asked == ["/keys"]
        clock.advance(3600)
        assert (await judge.judge(token(clock.now()))).login
        assert pages.asked == ["/keys"] * 2

    async def test_whom_nobody_vouches_for_is_not_trusted(self, web, clock):
        url, _ = web
        judge = TokenJudge(TokenSettings(ISSUER, AUDIENCE, f"{url}/keys"), clock)
        found = await judge.judge(token(clock.now()))
        assert not found.login
        assert "CERTIFICATE_VERIFY_FAILED" in found.trouble

    @pytest.mark.parametrize(
        "page",
        [
            (404, b"", {}),
            (500, b"", {}),
            (302, b"", {"Location": "/keys"}),
            (200, b" " * 300_000, {}),
            (200, b"<html>", {}),
            (200, b"\xff\xfe", {}),
        ],
    )
    async def test_what_is_no_answer_is_trouble(self, web, pages, clock, page):
        pages.pages["/other"] = page
        found = await self.judge(web, clock, "/other").judge(token(clock.now()))
        assert not found.login
        assert found.trouble.startswith(f"keys of {ISSUER}: ")
        assert pages.asked == ["/other"]


class TestExchange:
    @pytest.fixture
    def desk(self, make_desk, keys):
        desk = make_desk(tokens=TokenSettings(ISSUER, AUDIENCE, str(keys), scope="smtp"))
        desk.add("me@example.test")
        desk.add("you@example.test")
        return desk

    def response(self, mechanism, text, user="me@example.test"):
        if mechanism == "XOAUTH2":
            return f"user={user}\x01auth=Bearer {text}\x01\x01".encode()
        more = "host=mx.example.test\x01port=587\x01"
        return f"n,a={user},\x01{more}auth=Bearer {text}\x01\x01".encode()

    @pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
    async def test_a_good_token(self, desk, mechanism):
        assert mechanism in desk.auth.mechanisms(PEER)
        text = token(desk.clock.now(), scope="smtp")
        exchange = desk.auth.begin(mechanism, PEER)
        assert await exchange.respond(None) == Challenge(b"")
        claim = await exchange.respond(self.response(mechanism, text))
        verdict = await desk.auth.judge(claim, PEER)
        assert verdict.account.name == "me@example.test"

    @pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
    async def test_a_token_of_somebody_else(self, desk, mechanism):
        text = token(desk.clock.now(), scope="smtp")
        exchange = desk.auth.begin(mechanism, PEER)
        claim = await exchange.respond(self.response(mechanism, text, "you@example.test"))
        verdict = await desk.auth.judge(claim, PEER)
        assert (verdict.result, verdict.account) == (Result.WRONG, None)

    @pytest.mark.parametrize(
        ("mechanism", "refusal"),
        [
            ("XOAUTH2", {"status": "401", "schemes": "bearer", "scope": "smtp"}),
            (
                "OAUTHBEARER",
                {
                    "status": "invalid_token",
                    "scope": "smtp",
                    "openid-configuration": f"{ISSUER}/.well-known/openid-configuration",
                },
            ),
        ],
    )
    async def test_a_bad_token(self, desk, mechanism, refusal):
        text = token(desk.clock.now(), scope="smtp", exp=1)
        exchange = desk.auth.begin(mechanism, PEER)
        answer = await exchange.respond(self.response(mechanism, text))
        assert json.loads(answer.data) == refusal
        claim = await exchange.respond(b"\x01")
        verdict = await desk.auth.judge(claim, PEER)
        assert (verdict.result, verdict.reason) == (Result.WRONG, "the token has expired")

    async def test_keys_that_are_missing_are_not_a_bad_token(self, desk, keys):
        keys.unlink()
        exchange = desk.auth.begin("XOAUTH2", PEER)
        claim = await exchange.respond(self.response("XOAUTH2", token(desk.clock.now())))
        assert (await desk.auth.judge(claim, PEER)).result is Result.DOWN

    async def test_an_account_that_is_not_there(self, desk):
        text = token(desk.clock.now(), scope="smtp", email="else@example.test")
        exchange = desk.auth.begin("XOAUTH2", PEER)
        claim = await exchange.respond(self.response("XOAUTH2", text, "else@example.test"))
        assert (await desk.auth.judge(claim, PEER)).result is Result.WRONG

    def test_not_offered_without_an_issuer(self, make_desk):
        desk = make_desk()
        assert not {"XOAUTH2", "OAUTHBEARER"} & set(desk.auth.mechanisms(PEER))
        assert desk.auth.begin("XOAUTH2", PEER) is None

    @pytest.mark.parametrize(
        ("mechanism", "response"),
        [
            ("XOAUTH2", b""),
            ("XOAUTH2", b"user=me\x01auth=Bearer x"),
            ("XOAUTH2", b"auth=Bearer x\x01\x01"),
            ("XOAUTH2", b"user=me\x01auth=Basic x\x01\x01"),
            ("XOAUTH2", b"user=me\x01user=you\x01auth=Bearer x\x01\x01"),
            ("XOAUTH2", b"user=me\x01junk\x01auth=Bearer x\x01\x01"),
            ("XOAUTH2", b"user=me\x01auth=Bearer x y\x01\x01"),
            ("XOAUTH2", b"user=" + b"m" * 321 + b"\x01auth=Bearer x\x01\x01"),
            ("OAUTHBEARER", b"user=me\x01auth=Bearer x\x01\x01"),
            ("OAUTHBEARER", b"n,a=me\x01auth=Bearer x\x01\x01"),
            ("OAUTHBEARER", b"n,a=m=e,\x01auth=Bearer x\x01\x01"),
            ("OAUTHBEARER", b"p=tls-exporter,a=me,\x01auth=Bearer x\x01\x01"),
            ("OAUTHBEARER", b"n,a=me,\x01auth=x\x01\x01"),
            ("OAUTHBEARER", b"n,a=me,\x01auth=Bearer \xff\x01\x01"),
            ("OAUTHBEARER", b"n,,\x01auth=Bearer " + b"x" * 20000 + b"\x01\x01"),
        ],
    )
    async def test_malformed(self, desk, mechanism, response):
        with pytest.raises(MalformedResponse) as caught:
            await desk.auth.begin(mechanism, PEER).respond(response)
        assert not re.search("Bearer x|Basic", str(caught.value))

    async def test_a_client_may_ask_what_it_needs(self, desk):
        exchange = desk.auth.begin("OAUTHBEARER", PEER)
        answer = await exchange.respond(b"n,,\x01auth=\x01\x01")
        assert b"openid-configuration" in answer.data
        claim = await exchange.respond(b"\x01")
        assert (await desk.auth.judge(claim, PEER)).result is Result.WRONG

    async def test_escaped_names(self):
        async def validate(_text):
            return Token("a,b=c")

        exchange = Bearer("OAUTHBEARER", validate)
        claim = await exchange.respond(b"n,a=a=2Cb=3Dc,\x01auth=Bearer x\x01\x01")
        assert claim == Claim("OAUTHBEARER", "a,b=c", "a,b=c", proven=True)
