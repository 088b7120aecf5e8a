"""Where accounts are kept on this machine: a file of lines, and an SQLite database."""

from elemta.accounts.registers.passwd import PasswdRegister
from elemta.accounts.registers.sqlite import SqliteRegister

__all__ = ["PasswdRegister", "SqliteRegister"]
