"""A world of domains with SPF, DKIM, DMARC and ARC, for a server that checks them."""

import base64
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import authres
import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.unbound import run_unbound

DOWN = "127.0.0.251"
KIND = serialization.PublicFormat.SubjectPublicKeyInfo
ALL = "".join(f"{name}_enabled = true\n" for name in ("iprev", "spf", "dkim", "arc", "dmarc"))
CONFIG = """
[relay]
local_domains = ["example.test"]
trusted_networks = ["127.0.0.200/32"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "hold"
[dns]
nameservers = ["127.0.0.1:{port}"]
timeout = "15s"
[authentication]
"""


@cache
def make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


def record() -> str:
    """The key as the DNS has it."""
    public = make_key().public_key().public_bytes(serialization.Encoding.DER, KIND)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"


def private() -> bytes:
    return make_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def zones() -> dict[str, str]:
    """Names: those under `down.test` cannot be looked up, for `slow.test` nobody answers."""
    spf = {
        "pass": "v=spf1 ip4:127.0.0.2 -all",
        "fail": "v=spf1 ip4:192.0.2.1 -all exp=why.test",
        "soft": "v=spf1 ~all",
        "neutral": "v=spf1 ?all",
        "broken": "v=spf1 nonsense:x -all",
        "reject": "v=spf1 ip4:127.0.0.2 -all",
        "quarantine": "v=spf1 ip4:127.0.0.2 -all",
        "passing": "v=spf1 ip4:127.0.0.2 -all",
        "wrong": "v=spf1 ip4:127.0.0.2 -all",
        "mx.pass": "v=spf1 ip4:127.0.0.2 -all",
    }
    dmarc = {
        "pass": "v=DMARC1; p=reject",
        "fail": "v=DMARC1; p=none",
        "reject": "v=DMARC1; p=reject",
        "quarantine": "v=DMARC1; p=quarantine",
        "wrong": "v=DMARC1; p=everything",
        "signed": "v=DMARC1; p=reject",
    }
    lines = [f'{name} TXT "{text}"' for name, text in spf.items()]
    lines += [f'_dmarc.{name} TXT "{text}"' for name, text in dmarc.items()]
    lines += [f'key._domainkey.{name} TXT "{record()}"' for name in ("signed", "pass", "reject")]
    lines += ['why TXT "Ask us"', "ns A 127.0.0.1", "mx.pass A 127.0.0.2"]
    lines += ["down NS ns.down", f"ns.down A {DOWN}"]
    lines += ["slow NS ns.slow", "ns.slow A 127.0.0.250"]
    lines += ["_dmarc.half NS ns.down", "key._domainkey.half NS ns.down"]
    lines += ['half TXT "v=spf1 ip4:127.0.0.2 -all"', "liar A 127.0.0.99"]
    names = ["2.0.0 PTR mx.pass.test.", "3.0.0 PTR liar.test.", "4.0.0 NS ns.down.test."]
    return {"test": "\n".join(lines) + "\n", "127.in-addr.arpa": "\n".join(names) + "\n"}


@dataclass
class Post:
    """A server, and mail to it."""

    server: Elemta
    stop_dns: Callable[[], object]
    sent: int = 0

    def send(
        self,
        domain: str,
        *,
        source: str = "127.0.0.3",
        head: bytes | None = None,
        helo: str = "mx.pass.test",
        content: bytes | None = None,
        to: str = "",
    ) -> str:
        """Send a message from a domain; the last reply."""
        self.sent += 1
        self.to = to or f"box{self.sent}"
        if content is None:
            content = message(domain) if head is None else head + b"\r\nhello\r\n"
        with Dialogue(self.server.port, source=source) as client:
            reply = client.say(f"EHLO {helo}")
            assert reply.startswith("250"), reply
            sender = f"someone@{domain}" if domain else ""
            return client.deliver(content, sender, f"{self.to}@example.test")

    def arrived(self) -> bytes:
        """The message that was sent last, as it was delivered."""
        (found,) = self.server.wait_mail(self.to)
        return found

    def results(self) -> dict[str, authres.AuthenticationResult]:
        """What is written about it, as another's parser reads it; of several the last."""
        return parse(self.arrived())


def message(domain: str) -> bytes:
    return (
        f"From: Someone <someone@{domain}>\r\nTo: box@example.test\r\nSubject: hello\r\n"
        "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@test>\r\n\r\nhello\r\n"
    ).encode()


def signed(content: bytes, domain: str, selector: str = "key") -> bytes:
    """Sign by dkimpy."""
    return dkim.sign(content, selector.encode(), domain.encode(), private()) + content


def sealed(content: bytes, domain: str, results: str) -> bytes:
    """Seal by dkimpy, after a server that found something out."""
    found = f"Authentication-Results: {domain}; {results}\r\n".encode()
    fields = dkim.arc_sign(found + content, b"key", domain.encode(), private(), domain.encode())
    return b"".join(fields) + content


def parse(delivered: bytes) -> dict[str, authres.AuthenticationResult]:
    """Read the topmost Authentication-Results, which must be on top of all."""
    head = delivered.partition(b"\r\n\r\n")[0].decode()
    fields = head.replace("\r\n\t", " ").replace("\r\n ", " ").split("\r\n")
    place = next(at for at, field in enumerate(fields) if field.startswith("Authentication-Res"))
    assert all(field.startswith(("Return-Path", "Delivered-To")) for field in fields[:place])
    found = authres.AuthenticationResultsHeader.parse(fields[place])
    assert found.authserv_id == "mail.example.test"
    return {result.method: result for result in found.results}


@contextlib.contextmanager
def posting(folder: Path, settings: str, more: str = "") -> Iterator[Post]:
    """Serve, with settings of `[authentication]` and what follows it."""
    with contextlib.ExitStack() as dns:
        names = dns.enter_context(run_unbound(folder, zones(), avoids=[DOWN]))
        rest = CONFIG.format(port=names.validating[1]) + settings + more
        with running(folder, rest=rest) as server:
            yield Post(server, dns.close)
