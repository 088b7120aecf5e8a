"""Passwords that were right a moment ago, so that busy clients do not cost a hash each time.

What is kept is not the password but a MAC of it, of the account's state and of a key that this
process made up and tells nobody. It is forgotten after a short time, and void as soon as the
password changes.
"""

import hmac
import secrets
from collections import OrderedDict

from elemta.accounts.account import Record
from elemta.mail.clock import Clock

MAX_REMEMBERED = 10_000


class Remembered:
    """What was right. `keep_for` is in seconds; 0 keeps nothing."""

    def __init__(self, clock: Clock, keep_for: float) -> None:
        self._clock = clock
        self._keep_for = keep_for
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, record: Record, password: str) -> None:
        """Remember that a password was right."""
        if not self._keep_for:
            return
        mark = self._mark(record, password)
        self._until[mark] = self._clock.monotonic() + self._keep_for
        self._until.move_to_end(mark)
        if len(self._until) > MAX_REMEMBERED:
            self._until.popitem(last=False)

    def has(self, record: Record, password: str) -> bool:
        """Whether a password was right a moment ago, and the account's is still the same."""
        now = self._clock.monotonic()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return self._mark(record, password) in self._until

    def forget_all(self) -> None:
        """Forget them."""
        self._until.clear()

    def _mark(self, record: Record, password: str) -> bytes:
        return hmac.digest(self._key, record.stamp + password.encode(), "sha256")
