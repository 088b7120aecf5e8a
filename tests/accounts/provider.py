"""An identity provider: its keys, and tokens signed with them."""

import base64
import json
import ssl
import threading
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://login.example.test"
AUDIENCE = "mail"

KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
WEAK: dict[str, Any] = {
    "short": rsa.generate_private_key(65537, 1024),
    "p384": ec.generate_private_key(ec.SECP384R1()),
}


def jwk(private: Any, kid: str, **more: str) -> dict[str, Any]:
    """The public part as a JWK."""
    public = private.public_key()
    kinds = {
        rsa.RSAPublicKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePublicKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PublicKey: jwt.algorithms.OKPAlgorithm,
    }
    kind = next(kind for known, kind in kinds.items() if isinstance(public, known))
    return {**kind.to_jwk(public, as_dict=True), "kid": kid, **more}


def key_set(*names: str) -> dict[str, Any]:
    known = {**KEYS, **WEAK}
    return {"keys": [jwk(known[name], name) for name in (names or KEYS)]}


def token(
    now: float, algorithm: str = "ES256", key: Any = None, kid: str | None = "", **changes: Any
) -> str:
    """A token; a claim that is None is left out."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "4711",
        "email": "me@example.test",
        "exp": now + 300,
        **changes,
    }
    header = {} if kid is None else {"kid": kid or algorithm}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.warnings.InsecureKeyLengthWarning)
        return _signed(claims, KEYS[algorithm] if key is None else key, algorithm, header)


def _signed(claims, key, algorithm, header) -> str:
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None},
        key,
        algorithm=algorithm,
        headers=header,
    )


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class Pages:
    """What a web server gives: status, body and further header by path.

    To a question about a token (RFC 7662) it says what `tokens` has, where the path has no page;
    `asked_as` is the Authorization of each.
    """

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked_as: list[str | None] = []

    def answer(self, form: str, authorization: str | None) -> tuple[int, bytes, dict[str, str]]:
        self.asked_as.append(authorization)
        [asked] = parse_qs(form)["token"]
        said = {"active": asked in self.tokens, **self.tokens.get(asked, {})}
        return 200, json.dumps(said).encode(), {"Content-Type": "application/json"}


@contextmanager
def serving(pages: Pages, *, tls: bool = True):
    """A web server; gives its address and a context that trusts it."""
    authority = trustme.CA()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.asked.append(self.path)
            self.send(*pages.pages.get(self.path, (404, b"", {})))

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            pages.asked.append(self.path)
            said = pages.answer(form, self.headers["Authorization"])
            self.send(*pages.pages.get(self.path, said))

        def send(self, status: int, body: bytes, header: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in header.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = ours.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            host = "https://localhost" if tls else "http://127.0.0.1"
            yield f"{host}:{server.server_port}", theirs
        finally:
            server.shutdown()
            thread.join()
