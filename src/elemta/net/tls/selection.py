"""Which certificates are shown for which name (SNI, RFC 6066 §3)."""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from elemta.net.tls.certificates import Certificate

Pair = tuple[Certificate, ...]  # of different key types: OpenSSL shows what the client can verify


@dataclass(frozen=True, slots=True)
class Selection:
    """The contexts of one generation of certificates.

    Attributes:
        default: For clients that want no name, or one that nobody has.
        by_name: For host names; the first label may be "*".
    """

    default: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]

    def find(self, name: str) -> ssl.SSLContext | None:
        """Give the context for a name a client wants; None where no certificate is for it."""
        name = name.lower().rstrip(".")
        context = self.by_name.get(name)
        if context is None:
            context = self.by_name.get(f"*.{name.partition('.')[2]}")
        return context


def select(
    certificates: Sequence[Certificate],
    make: Callable[[Pair], ssl.SSLContext],
    *,
    is_strict: bool,
) -> Selection:
    """Make the contexts for certificates; of several for one name the first counts.

    Args:
        certificates: At least one; the first is the default.
        make: Makes a context that shows these certificates.
        is_strict: A name that nobody has ends the handshake with an alert.

    Raises:
        ConfigError: What `make` raises.
    """
    contexts: dict[Pair, ssl.SSLContext] = {}

    def context_of(pair: Pair) -> ssl.SSLContext:
        if pair not in contexts:
            contexts[pair] = make(pair)
        return contexts[pair]

    first = certificates[0]
    beside = [each for each in certificates if each.names & first.names]
    default = make(_one_of_each_type([first, *beside]))  # its own: only this one asks for names
    by_name = {
        name: context_of(_one_of_each_type([each for each in certificates if name in each.names]))
        for certificate in certificates
        for name in certificate.names
    }
    selection = Selection(default, by_name)

    def wanted(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        if name is None:
            return None
        found = selection.find(name)
        if found is not None:
            connection.context = found
        elif is_strict:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    default.sni_callback = wanted
    return selection


def _one_of_each_type(certificates: Sequence[Certificate]) -> Pair:
    found: dict[str, Certificate] = {}
    for certificate in certificates:
        found.setdefault(certificate.key_type, certificate)
    return tuple(found.values())
