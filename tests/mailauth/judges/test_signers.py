"""What others sign and seal is good here, and with an octet changed it is not."""

import base64
import random
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from mailauth.dkim.generated import field
from mailauth.dkim.signed import FORMS, judge, split
from mailauth.judges.corpus import judge_chain
from mailauth.judges.names import KEYS, ZONE, resolver, write_zone
from servers.knot import run_knot
from servers.mailauth_npm import ask, request
from servers.opendkim import run_opendkim
from servers.rspamd import run_rspamd

DOMAIN = "reject.example"
SET = ("ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results")
BODIES = (
    b"",
    b"Hello\r\n",
    b"Hello  there \r\n\r\n\t it \t is  late\r\n\r\n\r\n",
    b"x" * 900 + b"\r\n",
)
NEAT = (
    b"From: Ann <ann@reject.example>\r\n"
    b"To: bob@example.test\r\n"
    b"Subject: a  test\r\n\tof folds\r\n"
    b"X-Some: a\r\n"
    b"\r\n"
)


def compose() -> list[bytes]:
    """Messages as they are: From, To and so on once each, folded, with 8-bit text."""
    messages = []
    for number, body in enumerate(BODIES):
        rng = random.Random(number)
        names = ("To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type")
        fields = [field(rng, name, is_neat=True) for name in names]
        fields += [b"From: Ann <ann@reject.example>\r\n", b"X-Some: a\r\n", b"X-Some: b\r\n"]
        rng.shuffle(fields)
        messages.append(b"".join(fields) + b"\r\n" + body)
    return messages


def flip(raw: bytes) -> bytes:
    """Another author, by one bit."""
    return raw.replace(b"<ann@", b"<anf@")


async def words(raw: bytes) -> set[str]:
    return {verdict.status for verdict in await judge(raw, resolver(), now=time.time())}


async def assert_signed(signed: bytes, plain: bytes):
    assert signed.endswith(plain)
    assert signed != plain
    assert await words(signed) == {"pass"}, signed
    assert await words(flip(signed)) == {"fail"}
    assert await words(signed + b"x") == {"fail"}


async def assert_sealed(raw: bytes, times: int):
    verdict = await judge_chain(raw, time.time())
    assert (verdict.status, verdict.instances) == ("pass", times), verdict
    for changed in (flip(raw), raw + b"x", raw.replace(b"cv=none", b"cv=none ", 1)):
        if changed != raw:
            assert (await judge_chain(changed, time.time())).status == "fail"


# what it signs by Ed25519 with simple fields is wrong, for itself and all others, too
@pytest.mark.parametrize(
    ("kind", "form"),
    [*(("rsa", form) for form in FORMS), *(("ed25519", form) for form in FORMS[2:])],
)
async def test_opendkim(tmp_path, kind, form):
    pem, algorithm = KEYS[kind].pem(), KEYS[kind].algorithm
    # it gets fields as milters do, space lost
    messages = compose() if form.startswith("relaxed") else [NEAT + body for body in BODIES]
    with run_opendkim(tmp_path / "opendkim", DOMAIN, kind, pem, algorithm, form) as sign:
        for plain in messages:
            await assert_signed(sign(plain), plain)


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_rspamd(tmp_path, kind):
    key = KEYS[kind].key
    is_rsa = isinstance(key, RSAPrivateKey)
    secret = KEYS[kind].pem() if is_rsa else base64.b64encode(key.private_bytes_raw())
    with (
        run_knot(tmp_path, {"example": write_zone("example")}) as nameserver,
        run_rspamd(tmp_path, nameserver, selector=kind, secret=secret) as rspamd,
    ):
        for plain in compose():
            raw = rspamd.sign(plain, "DKIM-Signature")
            await assert_signed(raw, plain)
            if not is_rsa:
                continue  # it seals by RSA alone
            for times in (1, 2):
                raw = rspamd.sign(raw, *SET)
                await assert_sealed(raw, times)
            assert await words(raw) == {"pass"}
            assert "ARC_ALLOW" in rspamd(raw)
            raw = rspamd.sign(raw, *SET)  # its third seal is wrong, for itself too
            assert (await judge_chain(raw, time.time())).problem == "AS 3: the seal is wrong"
            assert "ARC_REJECT" in rspamd(raw)


def npm_key(name: str, domain: str = DOMAIN) -> dict[str, str]:
    return {
        "signingDomain": domain,
        "selector": name,
        "privateKey": KEYS[name].pem().decode(),
        "algorithm": KEYS[name].algorithm,
    }


@pytest.mark.parametrize("form", FORMS)
async def test_npm_mailauth(tmp_path, form):
    plain = compose()
    for names in (["rsa"], ["ed25519"], ["long", "ed25519"]):
        keys = [npm_key(name) for name in names]
        requests = [request("sign", each, keys=keys, form=form) for each in plain]
        for each, answer in zip(plain, ask(tmp_path, ZONE, requests), strict=True):
            signed = answer["fields"].encode() + each
            assert len(await judge(signed, resolver(), now=time.time())) == len(names)
            await assert_signed(signed, each)


@pytest.mark.parametrize(
    "name", ["rsa", "long"]
)  # by Ed25519 it makes no more than a part of a set
async def test_npm_mailauth_seals(tmp_path, name):
    messages = compose()
    for times in (1, 2):
        says = f"mx{times}.example; spf=none"
        key = npm_key(name, "one.relay.example")
        requests = [request("seal", each, key=key, results=says) for each in messages]
        answers = ask(tmp_path, ZONE, requests)
        messages = [
            answer["fields"].encode() + raw for answer, raw in zip(answers, messages, strict=True)
        ]
        for raw in messages:
            assert len(split(raw)[0]) > 500
            await assert_sealed(raw, times)
