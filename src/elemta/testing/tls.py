"""TLS with a certificate that is made for the occasion."""

from pathlib import Path
from tempfile import TemporaryDirectory

from elemta.mail.clock import Clock
from elemta.net.tls.certificates import CertificateFiles
from elemta.net.tls.selfsigned import make_selfsigned
from elemta.net.tls.server import ServerTls, ServerTlsSettings


def make_tls(name: str, clock: Clock) -> ServerTls:
    """Make what a server needs for handshakes; nobody vouches for its certificate.

    Its files are gone once they have been read.
    """
    with TemporaryDirectory(prefix="elemta-") as folder:
        chain, key = Path(folder, "certificate.pem"), Path(folder, "certificate.key")
        key.touch(0o600)
        for path, data in zip((chain, key), make_selfsigned([name], 30, clock.now()), strict=True):
            path.write_bytes(data)
        return ServerTls(ServerTlsSettings((CertificateFiles(chain, key),)), clock)
