"""Lets in those whose password a directory (LDAP) says is right."""

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from ssl import CERT_REQUIRED
from typing import Self
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException, LDAPSASLPrepError
from ldap3.utils.conv import escape_filter_chars
from pydantic import Field, SecretStr, model_validator

from elemta.plugins import AuthContext, Metadata, Plugin, Result, Settings

RIGHT, WRONG, TOO_MANY, NO_SUCH_ENTRY = 0, 49, 4, 32  # result codes (RFC 4511 appendix A)
WORDS = "Authentication credentials invalid"


class Directory(Settings):
    """Which directory, and where in it the users are.

    Attributes:
        uri: "ldaps://ldap.example.com", or "ldap://..." with `starttls`; in clear only on this
            machine.
        starttls: Begin TLS before anything is said.
        ca_file: Who vouches for its certificate; "" for the authorities of this machine.
        bind_dn, bind_password: As whom users are looked for; "" as nobody in particular.
        base: Below it all users are.
        filter: Finds one of them; the login takes the place of `{login}`.
        timeout: Seconds that each step may take.
        connections: How many logins are asked about at the same time.
    """

    uri: str = "ldap://127.0.0.1"
    starttls: bool = False
    ca_file: str = ""
    bind_dn: str = ""
    bind_password: SecretStr = SecretStr("")
    base: str = "dc=example,dc=com"
    filter: str = Field(default="(&(objectClass=person)(uid={login}))", pattern=r"\{login\}")
    timeout: int = Field(default=5, ge=1)
    connections: int = Field(default=4, ge=1, le=64)

    @model_validator(mode="after")
    def check_secrecy(self) -> Self:
        """Send no password in clear to where others could read it."""
        url = urlsplit(self.uri)
        if url.scheme not in {"ldap", "ldaps"} or not url.hostname:
            raise ValueError('uri: "ldap://HOST" or "ldaps://HOST" is expected')
        if url.scheme == "ldap" and not self.starttls and not is_here(url.hostname):
            raise ValueError("uri: passwords would go in clear: set starttls, or use ldaps")
        if self.bind_dn and not self.bind_password.get_secret_value():
            raise ValueError("bind_password: without one nobody would be asked who we are")
        return self


class LdapLogin(Plugin[Directory]):
    """Looks for the user's entry, then binds with its name and the password (RFC 4513 §5.1).

    What the directory does not clearly refuse is put off: a client that is told 535 asks its user
    for another password, and a broken directory is no reason for that.
    """

    metadata = Metadata(
        name="ldap-login",
        version="1.0.0",
        description="Asks a directory whether passwords are right",
        network=("*",),
    )
    Settings = Directory

    async def setup(self) -> None:
        self.threads = ThreadPoolExecutor(self.settings.connections, "ldap")

    async def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def on_auth_start(self, ctx: AuthContext) -> Result | None:
        if ctx.mechanism not in {"PLAIN", "LOGIN"}:
            return None  # there is no password to be asked about
        if not ctx.username or not ctx.password:
            return Result.reject(WORDS, note="nothing to be asked about")
        ask, loop = self.ask, asyncio.get_running_loop()
        try:
            fault = await loop.run_in_executor(self.threads, ask, ctx.username, ctx.password)
        except (LDAPException, OSError) as error:
            ctx.metrics.count("directory_errors")
            return Result.defer("The directory cannot be asked", note=f"{type(error).__name__}")
        if fault:
            return Result.reject(WORDS, note=fault)
        return Result.accept()

    def ask(self, login: str, password: str) -> str:
        """Say what is wrong with a login, "" for nothing; wait for the directory.

        Raises:
            LDAPException: It cannot say.
        """
        if not password:  # a bind without one succeeds, and proves nothing (RFC 4513 §5.1.2)
            return "no password"
        dn = self.find(login)
        if not dn:
            return "no such user, or several"
        with self.connect(dn, password) as user:
            return "" if self.is_bound(user) else "wrong password"

    def find(self, login: str) -> str:
        """Find the name of the only entry of a user; "" where there is none."""
        told = self.settings
        with self.connect(told.bind_dn, told.bind_password.get_secret_value()) as ours:
            if not self.is_bound(ours):
                raise LDAPException("it does not let us look for users")
            wanted = told.filter.replace("{login}", escape_filter_chars(login))
            ours.search(told.base, wanted, attributes=[ldap3.NO_ATTRIBUTES], size_limit=2)
            if ours.result["result"] not in {RIGHT, TOO_MANY, NO_SUCH_ENTRY}:
                raise LDAPException(f"the search failed: {ours.result['description']}")
            entries = [each for each in ours.response or () if each["type"] == "searchResEntry"]
        return str(entries[0]["dn"]) if len(entries) == 1 else ""

    @contextlib.contextmanager
    def connect(self, dn: str, password: str) -> Iterator[ldap3.Connection]:
        """Open a connection; a password goes to no other server that this one may name."""
        told = self.settings
        tls = ldap3.Tls(validate=CERT_REQUIRED, ca_certs_file=told.ca_file or None)
        server = ldap3.Server(told.uri, connect_timeout=told.timeout, get_info=ldap3.NONE, tls=tls)
        connection = ldap3.Connection(
            server,
            dn or None,
            password or None,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            receive_timeout=told.timeout,
        )
        try:
            yield connection
        finally:
            with contextlib.suppress(LDAPException, OSError):
                connection.unbind()
            if connection.socket is not None:  # it is left open where it could not be used
                connection.socket.close()

    def is_bound(self, connection: ldap3.Connection) -> bool:
        """Bind; False where the password is wrong."""
        connection.open()
        if self.settings.starttls and not connection.start_tls():
            raise LDAPException("it does not begin TLS")
        try:
            if connection.bind():
                return True
        except LDAPSASLPrepError:  # control characters: no directory has such a password
            return False
        if connection.result["result"] != WRONG:
            raise LDAPException(f"the bind failed: {connection.result['description']}")
        return False


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
