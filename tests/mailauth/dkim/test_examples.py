"""Signatures that others made and that are known to be right: of the RFCs, and of real mail."""

import os
from pathlib import Path

import pytest
from mailauth.dkim.signed import judge, split, statuses

from elemta.mailauth.dkim import Signer, SigningKey, SignSettings
from elemta.mailauth.keys import PrivateKey
from elemta.testing import FakeResolver

FOLDER = Path(__file__).resolve().parents[4] / "shared/conformance/dkim-mail-auth"
CLOCK = 1667843664.0

# RFC 6376 appendix A.2 and C
RFC6376_KEY = (
    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt"
    "IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi"
    "tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)
RFC6376 = b"""\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")

# RFC 8463 appendix A
RFC8463_KEYS = {
    "brisbane._domainkey.football.example.com": (
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ),
    "test._domainkey.football.example.com": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5"
        "qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG"
        "4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
    ),
}
RFC8463_SECRET = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
RFC8463 = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")


def zone(records):
    return FakeResolver({name: {"TXT": [text]} for name, text in records.items()})


async def test_rfc6376():
    resolver = zone({"brisbane._domainkey.example.com": RFC6376_KEY})
    (verdict,) = await judge(RFC6376, resolver)
    assert verdict.status == "pass"
    assert verdict.identity == "joe@football.example.com"
    assert (verdict.domain, verdict.selector, verdict.key_bits, verdict.tag) == (
        "example.com",
        "brisbane",
        1024,
        "AuUoFEfD",
    )
    assert await statuses(RFC6376.replace(b"hungry", b"Hungry"), resolver) == ["fail"]
    assert await statuses(RFC6376.replace(b"dinner", b"Dinner"), resolver) == ["fail"]


async def test_rfc8463():
    resolver = zone(RFC8463_KEYS)
    verdicts = await judge(RFC8463, resolver)
    assert [(verdict.status, verdict.algorithm, verdict.key_bits) for verdict in verdicts] == [
        ("pass", "ed25519-sha256", 256),
        ("pass", "rsa-sha256", 1024),
    ]
    assert await statuses(RFC8463.replace(b"hungry", b"Hungry"), resolver) == ["fail", "fail"]


def test_rfc8463_is_what_is_signed_here():
    key = PrivateKey.load(RFC8463_SECRET)
    assert key.record() == RFC8463_KEYS["brisbane._domainkey.football.example.com"]
    names = ("from", "to", "subject", "date", "message-id")
    settings = SignSettings(fields=names, oversigned=(), identity="@football.example.com")
    signer = Signer([SigningKey("football.example.com", "brisbane", key)], settings)
    head, _ = split(RFC8463)
    first = signer.sign(head, b"\0" * 32, 1528637909)
    assert first == signer.sign(head, b"\0" * 32, 1528637909.9)  # Ed25519 has nothing random
    assert first != signer.sign(head, b"\0" * 32, 1528637910)


def read_cases():
    return sorted(FOLDER.glob("0*.txt")) if FOLDER.exists() else []


def test_the_messages_are_there():
    if not FOLDER.exists():
        assert not os.environ.get("CI"), f"{FOLDER} is missing"
        pytest.skip(f"needs signed messages in {FOLDER}")
    assert len(read_cases()) == 6


def read_case(file):
    records, _, message = file.read_bytes().partition(b"\n\n")
    keys = dict(line.split(" ", 1) for line in records.decode().splitlines())
    return message.replace(b"\n", b"\r\n"), zone(keys)


@pytest.mark.parametrize("file", read_cases(), ids=lambda file: file.stem)
async def test_messages(file):
    message, resolver = read_case(file)
    found = await statuses(message, resolver, now=CLOCK)
    assert found == ["pass"] * message.lower().count(b"dkim-signature:")
    head, body = split(message)
    changed = head + b"x" + body
    assert await statuses(changed, resolver, now=CLOCK) == ["fail"] * len(found)


@pytest.mark.parametrize("file", read_cases()[4:5], ids=lambda file: file.stem)
async def test_a_message_that_expires(file):
    message, resolver = read_case(file)
    (verdict,) = await judge(message, resolver, now=CLOCK + 90_000)
    assert (verdict.status, verdict.problem) == ("policy", "the signature has expired")
