"""The system's clock: the only place that asks the operating system for the time."""

import time


class SystemClock:
    """`elemta.mail.clock.Clock` as the machine has it."""

    now = staticmethod(time.time)  # noqa: TID251 - this is the clock that everyone else takes
    monotonic = staticmethod(time.monotonic)
