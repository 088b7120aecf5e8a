"""What the room is told: how to verify, what to offer, whom to let in when."""

from dataclasses import dataclass, field

from elemta.accounts.hashes import ARGON2, Argon2Settings
from elemta.accounts.rules import Rule
from elemta.accounts.tokens import TokenSettings

MECHANISMS = (
    "EXTERNAL",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "OAUTHBEARER",
    "XOAUTH2",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)
"""All there are, strongest first: the order in which they are offered."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Settings of one worker.

    Attributes:
        hostname: The name of this server.
        mechanisms: Those to be offered.
        argon2: How passwords are hashed.
        scram_iterations: Of the keys for SCRAM; 0: none are made.
        key: Makes up what an unknown login is shown. The same for all workers, and after a
            restart.
        hash_threads: Threads that verify passwords.
        max_waiting: Logins that may wait for them.
        remember_for: Seconds that a verified password is remembered; 0: not at all.
        rules: When and from where logins are allowed.
        tokens: Whose tokens are good; None: nobody's.
    """

    hostname: str
    key: bytes = field(repr=False)
    mechanisms: frozenset[str] = frozenset(
        {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"}
    )
    argon2: Argon2Settings = ARGON2
    scram_iterations: int = 100_000
    hash_threads: int = 2
    max_waiting: int = 100
    remember_for: float = 60.0
    rules: tuple[Rule, ...] = ()
    tokens: TokenSettings | None = None
