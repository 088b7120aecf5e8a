"""`elemta`, but it can be told to die at a durable step: `python serve.py PLANS serve -c FILE`.

PLANS is a folder. A file in it that has the name of a step (`elemta.net.steps`) is a plan, in
two words: at which time from now that step is reached, counted in each process, and who dies
then: "process", the one that has reached it, or "tree", its whole process group. A plan is
removed when it is carried out, so that whoever is started next lives; `PLANS/kills` gets a line
for it: the monotonic instant and the step.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from elemta.cli import main
from elemta.net import steps

KILLS = "kills"
# What is written to a socket leaves at the end of the event loop's turn: die a little after that.
LATER = {"smtp.after_dot": 0.005}


class Executioner:
    """Looks at every step whether it is the last."""

    def __init__(self, plans: str):
        self._plans = Path(plans)
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def on_step(self, name: str) -> None:
        try:
            with (self._plans / name).open() as plan:
                count, whom = plan.read().split()
        except FileNotFoundError:
            return
        with self._lock:
            self._seen[name] += 1
            is_last = self._seen[name] == int(count)
        if is_last and name in LATER:
            threading.Timer(LATER[name], self._kill, (name, whom)).start()
        elif is_last:
            self._kill(name, whom)

    def _kill(self, name: str, whom: str) -> None:
        with (self._plans / KILLS).open("a") as kills:
            kills.write(f"{time.monotonic()} {name}\n")
        (self._plans / name).unlink()
        if whom == "tree":
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    steps.on_step = Executioner(sys.argv.pop(1)).on_step
    main()
