"""A running server that has accounts, and clients who log in or try to."""

import json
import subprocess
from base64 import b64encode

from servers.dialogue import Dialogue
from servers.elemta import Elemta
from servers.process import free_port

AUTH = """
[[auth.sources]]
type = "sqlite"
[auth]
mechanisms = ["PLAIN", "LOGIN"]
scram_iterations = 0
argon2 = {{ memory = "8MiB", passes = 1 }}
"""
PASSWORD = "correct horse battery staple"


def submission() -> tuple[int, str]:
    """A port, and the table of a listener there where AUTH needs no TLS."""
    port = free_port()
    table = f'[[listeners]]\naddress = "127.0.0.1:{port}"\nkind = "submission"\nclear_auth = true\n'
    return port, table


def add_user(server: Elemta, login: str, *options: str) -> None:
    command = (*server.command, "user", "add", login, "--password-stdin", *options)
    done = subprocess.run(
        [*command, "-c", str(server.config)],
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def plain(login: str, password: str) -> str:
    secret = b64encode(b"\0".join((b"", login.encode(), password.encode())))
    return f"AUTH PLAIN {secret.decode()}"


def log_in(port: int, source: str, login: str, password: str = PASSWORD) -> str:
    """Connect and try once; the reply, or the banner of a server that does not let in."""
    with Dialogue(port, source=source) as client:
        if not client.banner.startswith("220"):
            return client.banner
        client.hello()
        return client.say(plain(login, password))


def bans(server: Elemta, *arguments: str) -> list[dict]:
    """What `elemta bans` says."""
    return json.loads(server.cli("bans", *arguments, "--json").stdout)
