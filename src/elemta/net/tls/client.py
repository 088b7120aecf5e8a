"""TLS of outgoing connections: which certificates and versions are taken.

Nothing older than TLS 1.2 is spoken (RFC 8996), and nothing negotiated anew. Where a next hop
need not prove who it is, TLS still keeps passive listeners out, so any certificate will do then:
a check that ended in clear text would make things worse (RFC 7435).
"""

import ssl
from functools import cache


@cache
def unverified_context() -> ssl.SSLContext:
    """TLS with whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


@cache
def verified_context(ca_file: str | None = None) -> ssl.SSLContext:
    """TLS with a host whose certificate a known authority gave for its name.

    Args:
        ca_file: PEM file of the authorities; None means those of the system.

    Raises:
        OSError: The file cannot be read, or is none.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context
