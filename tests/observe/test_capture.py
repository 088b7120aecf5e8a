import json
import subprocess
import sys

SCRIPT = """
import asyncio, gc, logging, sys, threading, warnings
from elemta.observe import Log, capture, capture_loop
log = Log(1, "debug")
capture(log)
capture(log)  # the second replaces the first
secret = "a value that must not be told"

logging.getLogger("uvicorn.error").info("chatter")
logging.getLogger("some.library").warning("careful: %s", "disk")
logging.getLogger("some.library").error("%d", "no number")
try:
    [][1]
except IndexError:
    logging.getLogger("other").exception("it went wrong")
warnings.warn("old ways", DeprecationWarning, stacklevel=1)

thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()

class Bad:
    def __del__(self):
        raise RuntimeError("in del")
Bad()
gc.collect()

async def main():
    loop = asyncio.get_running_loop()
    capture_loop(loop, log)
    def fail():
        raise LookupError("in a callback")
    loop.call_soon(fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

asyncio.run(main())
import atexit
atexit.register(log.close)
def inner():
    raise OSError("at last")
inner()
"""


def test_all_that_python_and_libraries_say_becomes_events():
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert "a value that must not be told" not in done.stdout
    told = [(event["event_type"], event.get("where", event.get("subject", ""))) for event in found]
    assert told == [
        ("notice", "some.library"),
        ("internal_error", "some.library"),
        ("internal_error", "other"),
        ("notice", "py.warnings"),
        ("internal_error", "thread worker"),
        ("internal_error", told[5][1]),
        ("internal_error", "event loop"),
        ("internal_error", "process"),
    ]
    errors = [event.get("error", event.get("detail", "")) for event in found]
    assert errors[0] == "careful: disk"
    assert errors[1] == "%d"
    assert errors[2].startswith("it went wrong: IndexError: list index out of range [<string>:")
    assert "DeprecationWarning: old ways" in errors[3]
    assert errors[4].startswith("ZeroDivisionError: division by zero [<string>:")
    assert errors[5].startswith("RuntimeError: in del")
    assert "LookupError: in a callback" in errors[6]
    assert errors[7].startswith("OSError: at last [<string>:")
    assert " inner < <string>:" in errors[7]
