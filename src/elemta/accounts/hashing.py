"""A few threads for work that is meant to be slow, and an end to how much of it may wait.

Hashing a password takes tens of milliseconds and megabytes, whoever asks for it. So that a
flood of logins can stall neither the loop nor the machine, a fixed number of threads does it,
and beyond a number of waiting jobs the answer is "not now".
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from elemta.mail.errors import ElemtaError

P = ParamSpec("P")
T = TypeVar("T")


class BusyError(ElemtaError):
    """More waits than may; to come again later may help."""


class Workshop:
    """The threads.

    Args:
        name: What they are called.
        threads: How many there are.
        max_waiting: Jobs that may wait for one.
    """

    def __init__(self, name: str, threads: int, max_waiting: int) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threads + max_waiting
        self._lock = threading.Lock()
        self._is_closed = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have a job done. It is done even where nobody waits for it any more.

        Raises:
            BusyError: Too much waits, or it is closed.
        """
        with self._lock:
            if self._is_closed or not self._room:
                raise BusyError(f"{self._name}: {'closed' if self._is_closed else 'busy'}")
            self._room -= 1
            job = self._pool.submit(work, *args, **kwargs)
        job.add_done_callback(self._done)
        return await asyncio.wrap_future(job)

    def _done(self, _job: "Future[T]") -> None:
        with self._lock:
            self._room += 1

    async def close(self) -> None:
        """Refuse further jobs, and wait for those that are there; idempotent."""
        with self._lock:
            self._is_closed = True
        await asyncio.to_thread(self._pool.shutdown)
