"""The places that `elemta user` looks into and writes to, and how it asks for passwords.

A server that runs reads the same files: what is changed here holds from the next login on.
"""

import contextlib
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from elemta.accounts.account import AccountError, Record
from elemta.accounts.passwords import Keeping
from elemta.accounts.prepare import (
    MAX_PASSWORD,
    PrepareError,
    prepare_login,
    prepare_password,
)
from elemta.accounts.source import Register, SourceDown
from elemta.app.accounts import keeping, registers
from elemta.cli.options import load_config
from elemta.cli.output import TEMPORARY, fail, warn

SHORT = 8  # letters; fewer can be guessed however they are hashed


@dataclass(frozen=True, slots=True)
class Places:
    """Where accounts are kept, as the configuration says.

    Attributes:
        registers: In the order in which they are asked.
        keeping: What is kept of a password.
    """

    registers: Sequence[Register]
    keeping: Keeping

    def locate(self, login: str) -> tuple[Register, Record] | None:
        """Find who knows a login; the first does, as for the server."""
        for register in self.registers:
            record = register.find(login) if register.has_begun else None
            if record is not None:
                return register, record
        return None

    def get(self, login: str) -> tuple[Register, Record]:
        """Find who knows a login.

        Raises:
            AccountError: Nobody does.
        """
        found = self.locate(login)
        if found is None:
            raise AccountError(f"there is no account {login}")
        return found

    def list_all(self) -> Iterator[tuple[Register, Record]]:
        """Give all accounts, those that the server asks first before others."""
        for register in self.registers:
            if register.has_begun:
                for record in register.list_all():
                    yield register, record

    def change(self, login: str, change: Callable[[Record], Record]) -> Register:
        """Change an account that is there.

        Raises:
            AccountError: It is not, or cannot be changed so.
        """
        register, _ = self.get(login)
        register.edit(login, lambda record: change(_present(record, login)))
        return register


def _present(record: Record | None, login: str) -> Record:
    if record is None:
        raise AccountError(f"there is no account {login}")
    return record


@contextlib.contextmanager
def places(config_path: Path | None) -> Iterator[Places]:
    """Open the places of a configuration; what goes wrong with them ends the command."""
    config = load_config(config_path)
    found = registers(config)
    if not found:
        fail("no accounts are kept: the configuration has no [[auth.sources]]")
    try:
        yield Places(found, keeping(config))
    except SourceDown as error:
        fail(str(error), TEMPORARY)
    except AccountError as error:
        fail(str(error))
    finally:
        for register in found:
            register.close()


class LoginType(click.ParamType[str]):
    """A login, in its normal form."""

    name = "login"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            return prepare_login(str(value))
        except PrepareError as error:
            self.fail(str(error), param, ctx)


login_argument = click.argument("login", type=LoginType(), metavar="LOGIN")

stdin_option = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="Read it from the first line of stdin."
)
generate_option = click.option(
    "--generate", is_flag=True, help="Make one up, and print it this once."
)


def get_password(*, from_stdin: bool, generate: bool) -> str:
    """Ask for a password on the terminal, read it, or make one up; in its normal form."""
    if from_stdin and generate:
        raise click.UsageError("--password-stdin and --generate exclude each other")
    if generate:
        return secrets.token_urlsafe(15)
    if from_stdin:
        raw = sys.stdin.buffer.readline(MAX_PASSWORD + 3)
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
    elif sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise click.UsageError("there is no terminal: give --password-stdin or --generate")
    try:
        password = prepare_password(text)
    except PrepareError as error:
        fail(str(error))
    if len(password) < SHORT:
        warn(f"a password of less than {SHORT} letters is easily guessed")
    return password
