"""The DNS of the corpus: an organization for each kind of policy, with hosts for each kind of SPF.

`HOST.POLICY.example` has the SPF record of its host, `POLICY.example` the policy of DMARC; names
in `invalid` cannot be looked up.
"""

from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mailauth.dkim.signed import key
from mailauth.test_keys import SHORT

from elemta.mailauth.keys import PrivateKey
from elemta.testing import FakeResolver

PASS, SOFT, NEUTRAL, FAIL, SIX = (
    "192.0.2.5",
    "198.51.100.7",
    "203.0.113.9",
    "192.0.2.200",
    "2001:db8::5",
)
ADDRESSES = "v=spf1 ip4:192.0.2.0/28 ~ip4:198.51.100.0/24 ?ip4:203.0.113.0/24"
SPF: dict[str, list[str]] = {
    "ip": [f"{ADDRESSES} -all"],
    "a": ["v=spf1 a:mail.hosts.example -all"],
    "mx": ["v=spf1 mx:hosts.example ~all"],
    "include": ["v=spf1 include:_spf.hosts.example -all"],
    "redirect": ["v=spf1 redirect=_spf.hosts.example"],
    "exists": ["v=spf1 exists:%{ir}.%{v}.list.hosts.example -all"],
    "local": ["v=spf1 exists:%{l}.local.hosts.example ~all"],
    "six": ["v=spf1 ip6:2001:db8::/32 -all"],
    "empty": ["v=spf1"],
    "typo": ["v=spf1 ipv4:192.0.2.5 -all"],
    "loop": ["v=spf1 include:loop.none.example -all"],
    "nowhere": ["v=spf1 include:gone.hosts.example -all"],
    "void": ["v=spf1 a:no1.example a:no2.example a:no3.example -all"],
    "two": ["v=spf1 -all", "v=spf1 +all"],
    "plain": ["something else"],
    "slow": ["v=spf1 include:down.invalid -all"],
    "gone": [],
}
POLICIES: dict[str, list[str]] = {
    "none": [],
    "watch": ["v=DMARC1; p=none; rua=mailto:dmarc@watch.example"],
    "quarantine": ["v=DMARC1; p=quarantine"],
    "reject": ["v=DMARC1; p=reject"],
    "strict": ["v=DMARC1; p=reject; adkim=s; aspf=s"],
    "below": ["v=DMARC1; p=none; sp=reject"],
    "above": ["v=DMARC1; p=quarantine; sp=none"],
    "missing": ["v=DMARC1; p=none; sp=quarantine; np=reject"],
    "testing": ["v=DMARC1; p=reject; t=y"],
    "percent": ["v=DMARC1; p=reject; pct=0"],
    "wrong": ["v=DMARC1; p=nothing"],
    "twice": ["v=DMARC1; p=none", "v=DMARC1; p=reject"],
    "suffix": ["v=DMARC1; p=reject; psd=y"],
    "middle": [],  # its record is at mid.middle.example
}
AUTHORS = ("", "sub.", "own.", "gone.", "sub.mid.")  # of which the last but one does not exist
RSA, LONG, ED25519 = key("rsa", 1024), key("rsa", 2048), key("ed25519")
KEYS: dict[str, PrivateKey] = {
    "rsa": RSA.key,
    "long": LONG.key,
    "ed25519": ED25519.key,
    "weak": PrivateKey(load_pem_private_key(SHORT, None, unsafe_skip_rsa_key_validation=True)),
    "other": ED25519.key,
    "revoked": ED25519.key,
    "absent": ED25519.key,
    "down": ED25519.key,
}
PUBLISHED = {
    **{name: KEYS[name].record() for name in ("rsa", "long", "ed25519", "weak")},
    "other": PrivateKey.generate("ed25519").record(),
    "revoked": "v=DKIM1; k=ed25519; p=",
}
SIGNERS = ("", "sub.", "sign.", "sub.mid.")  # domains of an organization that sign
RELAYS = ("one.relay.example", "two.relay.example", "three.relay.example")


def make_zone() -> dict[str, dict[str, list[Any]] | None]:
    """All of it, as a `FakeResolver` wants it."""
    zone: dict[str, dict[str, list[Any]] | None] = {
        "hosts.example": {"MX": [(10, "mail.hosts.example"), (20, "six.hosts.example")]},
        "mail.hosts.example": {"A": [PASS]},
        "six.hosts.example": {"AAAA": [SIX]},
        "_spf.hosts.example": {"TXT": [f"{ADDRESSES} ip6:2001:db8::/64 -all"]},
        "5.2.0.192.in-addr.list.hosts.example": {"A": ["127.0.0.2"]},
        "ann.local.hosts.example": {"A": ["127.0.0.2"]},
        "alias.hosts.example": {"CNAME": ["ip.none.example"]},
        "down.invalid": None,
        "_dmarc.down.invalid": None,
        "down._domainkey.down.invalid": None,
        "_dmarc.mid.middle.example": {"TXT": ["v=DMARC1; p=quarantine"]},
    }
    for policy, records in POLICIES.items():
        domain = f"{policy}.example"
        zone[domain] = {"TXT": SPF["ip"]}
        for host, texts in SPF.items():
            if texts:
                zone[f"{host}.{domain}"] = {"TXT": texts}
        for below in ("sub.", "own.", "sub.mid."):
            zone[f"{below}{domain}"] = {"A": [PASS]}
        if records:
            zone[f"_dmarc.{domain}"] = {"TXT": records}
        zone[f"_dmarc.own.{domain}"] = {"TXT": ["v=DMARC1; p=none"]}
        for below in SIGNERS:
            zone |= _keys(f"{below}{domain}")
    for domain in ("other.example", *RELAYS):
        zone |= _keys(domain)
    return zone


def _keys(domain: str) -> dict[str, dict[str, list[Any]]]:
    return {f"{name}._domainkey.{domain}": {"TXT": [text]} for name, text in PUBLISHED.items()}


ZONE = make_zone()


def resolver() -> FakeResolver:
    return FakeResolver(ZONE)


def write_zone(top: str) -> str:
    """What is below a name, as the text of a zone."""
    lines = []
    for name, records in ZONE.items():
        if records is None or not name.endswith(f".{top}"):
            continue
        for rdtype, found in records.items():
            lines += [f"{name}. IN {rdtype} {_write(rdtype, each)}\n" for each in found]
    return "".join(lines)


def _write(rdtype: str, value: Any) -> str:
    if rdtype == "TXT":
        return " ".join(f'"{value[at : at + 200]}"' for at in range(0, len(value), 200))
    if rdtype == "MX":
        return f"{value[0]} {value[1]}."
    return f"{value}." if rdtype == "CNAME" else value
