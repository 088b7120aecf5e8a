"""The running server, started from a configuration file as an operator starts it."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner
from servers.dialogue import Dialogue
from servers.process import free_port, kill_group

from elemta.cli.main import cli
from elemta.cli.output import TEMPORARY

PATIENCE = 40.0  # seconds for anything that should happen at once
TRIES = 4  # of a command

BASE = """
[server]
hostname = "mail.example.test"
state_dir = "{state}"
workers = {workers}
{server}
[[listeners]]
address = "127.0.0.1:{port}"
kind = "mta"
{listeners}
[metrics]
listen = "127.0.0.1:{metrics}"
[logging]
level = "debug"
"""

MAILDIR = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{mail}/{{domain}}/{{local}}"
[[routes]]
domains = ["*"]
via = "hold"
"""


@dataclass
class Elemta:
    """A server and what a test asks of it."""

    folder: Path
    rest: str = MAILDIR
    workers: int = 1
    server: str = ""
    listeners: str = ""
    command: tuple[str, ...] = (sys.executable, "-m", "elemta")
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.folder / "var"

    @property
    def mail(self) -> Path:
        return self.folder / "mail"

    @property
    def config(self) -> Path:
        return self.folder / "elemta.toml"

    @property
    def log_file(self) -> Path:
        return self.folder / "log.jsonl"

    def write_config(self) -> None:
        text = BASE.format(
            state=self.state,
            workers=self.workers,
            server=self.server,
            listeners=self.listeners,
            port=self.port,
            metrics=self.metrics_port,
        )
        self.config.write_text(text + self.rest.format(mail=self.mail, folder=self.folder))

    def start(self) -> "Elemta":
        """Write the configuration, start, and wait for the banner."""
        self.spawn()
        self.wait_for(self.greets, "the banner")
        return self

    def spawn(self) -> None:
        """Write the configuration and start."""
        self.folder.mkdir(exist_ok=True)
        self.write_config()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "serve", "-c", str(self.config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def greets(self) -> bool:
        """Whether it takes connections; an error when it has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the server ended:\n{self.log_file.read_text()[-3000:]}")
        try:
            # one look and no more, however slow the machine is: tests count sessions
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as probe:
                greets = probe.recv(4) == b"220 "
                probe.sendall(b"QUIT\r\n")
                return greets
        except OSError:
            return False

    def wait_for(self, condition, what: str, limit: float = PATIENCE):
        """Ask until the condition is true; its value."""
        end = time.monotonic() + limit
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                tail = self.log_file.read_text()[-3000:]
                raise AssertionError(f"{what} did not come in {limit} s; the log ends:\n{tail}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Stop as an operator does; the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(40)
        self.process = None
        return status

    def kill(self) -> None:
        """Kill the whole process tree, as a power cut would."""
        if self.process is not None:
            kill_group(self.process.pid)
            self.process.wait(PATIENCE)
            self.process = None

    def send(
        self, sender: str, *recipients: str, content: bytes = b"\r\n", source: str | None = None
    ) -> str:
        """Send a message, which must be accepted; its queue id."""
        with Dialogue(self.port, source=source) as client:
            client.hello()
            reply = client.deliver(content, sender, *recipients)
        assert reply.startswith("250 2.0.0 Ok: queued as "), reply
        return reply.rpartition(" ")[2]

    def reload(self, before: str, after: str) -> None:
        """Change the configuration file, have it read again, and wait until that is done."""
        count = len(self.events("config_changed"))
        text = self.config.read_text()
        assert before in text
        self.config.write_text(text.replace(before, after))
        self.process.send_signal(signal.SIGHUP)
        self.wait_event("config_changed", count + 1)

    def events(self, kind: str | None = None) -> list[dict]:
        """The log so far, one dict an event."""
        found = []
        begin = b"{" if kind is None else f'{{"event_type":"{kind}"'.encode()
        for line in self.log_file.read_bytes().split(b"\n"):
            if line.startswith(begin):  # the log of a server that many tests share is long
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def wait_event(self, kind: str, count: int = 1, **fields) -> list[dict]:
        """Wait for events with these fields."""

        def enough() -> list[dict]:
            found = [
                event
                for event in self.events(kind)
                if all(event.get(name) == value for name, value in fields.items())
            ]
            return found if len(found) >= count else []

        return self.wait_for(enough, f"{count} x {kind} {fields}")

    def mailbox(self, local: str, domain: str = "example.test") -> list[Path]:
        """The messages in a mailbox."""
        return sorted((self.mail / domain / local / "new").glob("*"))

    def wait_mail(self, local: str, count: int = 1) -> list[bytes]:
        """Wait for messages in a mailbox; their bytes."""
        self.wait_for(lambda: len(self.mailbox(local)) >= count, f"{count} messages for {local}")
        return [path.read_bytes() for path in self.mailbox(local)]

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI against this server's configuration.

        Whom a busy worker has not answered within the command's own patience asks again.
        """
        for _ in range(TRIES if check else 1):
            done = subprocess.run(
                [*self.command, *arguments, "-c", str(self.config)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode != TEMPORARY:
                break
        if check and done.returncode:
            raise AssertionError(f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def queued(self, *conditions: str) -> list[dict]:
        """What `elemta queue list` shows, without a process of its own."""
        arguments = ["queue", "list", "--json", *conditions, "-c", str(self.config)]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def get(self, path: str) -> tuple[int, str]:
        """Ask the web process; status and body."""
        url = f"http://127.0.0.1:{self.metrics_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metric(self, sample: str) -> float:
        """The value of one sample line, as `name{label="x"}`; 0 where there is none."""
        for line in self.get("/metrics")[1].split("\n"):
            if line.rpartition(" ")[0] == sample:
                return float(line.rpartition(" ")[2])
        return 0.0


@contextlib.contextmanager
def running(folder: Path, **options) -> Iterator[Elemta]:
    """A running server; its process tree is gone at the end, whatever happens."""
    elemta = Elemta(folder, **options)
    try:
        yield elemta.start()
    finally:
        elemta.kill()
