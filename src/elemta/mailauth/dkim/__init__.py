"""DKIM: signatures of messages, judged and made (RFC 6376, RFC 8301, RFC 8463)."""

from elemta.mailauth.dkim.lookup import fetch_key, find_key
from elemta.mailauth.dkim.settings import DkimSettings, SignSettings
from elemta.mailauth.dkim.signature import Signature, SignatureError, parse_name, read_signature
from elemta.mailauth.dkim.signer import Signer, SigningError, SigningKey
from elemta.mailauth.dkim.verifier import Verifier

__all__ = [
    "DkimSettings",
    "SignSettings",
    "Signature",
    "SignatureError",
    "Signer",
    "SigningError",
    "SigningKey",
    "Verifier",
    "fetch_key",
    "find_key",
    "parse_name",
    "read_signature",
]
