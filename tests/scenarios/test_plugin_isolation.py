"""The running server, and plugins outside it that crash, hang and attack: it goes on."""

import contextlib
import json
import shutil
import statistics
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from plugins.remote.gcc import EXAMPLES, build
from plugins.remote.outside import HOSTILE
from plugins.remote.servers_of_plugins import install, node_plugin, python_plugin
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running

MAIL = b"Subject: hello\r\n\r\nhello\r\n"


@contextlib.contextmanager
def serving(folder, *paths, name, library=False, **options):
    """A server with one plugin of these files."""
    plugins = folder / "plugins"
    plugins.mkdir(mode=0o755)
    for path in paths:
        shutil.copy(path, plugins)
        (plugins / path.name).chmod(0o644)
    where = {"library": paths[0].name} if library else {"isolation": "process"}
    if not library:
        where["module"] = paths[0].name
    lines = [f"{key} = {written(value)}" for key, value in {**where, **options}.items()]
    rest = MAILDIR + "\n".join(
        [
            "[plugins]",
            f"directory = {json.dumps(str(plugins))}",
            "auto_load = false",
            "[[plugins.plugin]]",
            f"name = {json.dumps(name)}",
            *lines,
            "",
        ]
    )
    with running(folder / "server", rest=rest) as elemta:
        yield elemta


def written(value):
    """A value as the configuration has it."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {written(each)}" for key, each in value.items())
        return f"{{{{ {pairs} }}}}"
    return json.dumps(value)


def try_sender(elemta, local):
    """What the server says to a sender."""
    with Dialogue(elemta.port) as client:
        client.hello()
        return client.say(f"MAIL FROM:<{local}@b.test>")


@pytest.fixture(scope="module")
def hostile_library(tmp_path_factory):
    return build(HOSTILE / "hostile_c.c", tmp_path_factory.mktemp("hostile"))


PYTHON = ("raise", "exit", "segfault", "memory", "fork", "shadow", "connect", "garbage", "crlf")
LIBRARY = ("segfault", "abort", "exit", "memory", "fork", "shadow", "connect", "garbage")
HANGING = ("hang", "spin")
PATIENT = {"timeout": "3s"}
CALM = 20  # dialogues of a bystander while nothing happens


@contextlib.contextmanager
def bystander(elemta):
    """Another client that is served all the while; when its dialogues began and ended."""
    dialogues = []
    is_over = threading.Event()

    def go_on():
        while not is_over.is_set():
            began = time.monotonic()
            with Dialogue(elemta.port) as client:
                client.hello()
            dialogues.append((began, time.monotonic()))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield dialogues
    finally:
        is_over.set()
        thread.join()


def median_wait(dialogues):
    """How long a dialogue took, seconds."""
    return statistics.median(ended - began for began, ended in dialogues)


def assert_not_held_up(calm, dialogues, *times):
    """A bystander was served in each of some times, within which a plugin hung.

    A busy machine makes all slower. Whoever were held up by the plugin would wait for the whole of
    its time, so that no dialogue began and ended within it.
    """
    for begin, end in times:
        assert sum(began > begin and ended < end for began, ended in dialogues) >= 3
    assert median_wait(dialogues) < max(20 * median_wait(calm), 0.3)


def attack(elemta, deeds):
    """Every deed makes its mail wait, and harms nobody else."""
    hung = []
    with bystander(elemta) as calm:
        elemta.wait_for(lambda: len(calm) >= CALM, "dialogues of a bystander")
    with bystander(elemta) as dialogues:
        for deed in deeds:
            began = time.monotonic()
            reply = try_sender(elemta, deed)
            if deed in HANGING:
                hung.append((began, time.monotonic()))
            assert reply.startswith("451 4.3.0 "), (deed, reply)
            elemta.wait_for(
                lambda: try_sender(elemta, "nothing").startswith("250"), f"the plugin after {deed}"
            )
    assert len(hung) == len(HANGING)
    assert_not_held_up(calm, dialogues, *hung)
    assert elemta.mailbox("c") == []
    elemta.send("nothing@b.test", "c@example.test", content=MAIL)
    assert len(elemta.wait_mail("c")) == 1


def test_a_hostile_python_plugin_in_its_process(tmp_path):
    with serving(tmp_path, HOSTILE / "hostile.py", name="hostile", **PATIENT) as elemta:
        attack(elemta, (*PYTHON, *HANGING))
        assert {event["plugin"] for event in elemta.events("plugin_error")} == {"hostile"}


def test_a_bystander_does_not_wait_while_a_plugin_does_its_worst(tmp_path):
    """Mail that the plugin is asked about comes all the while, from several clients at once."""
    options = {"timeout": "3s", "limits": {"cpu": 2, "memory": 300_000_000, "calls": 2}}
    deeds = ("spin", "memory", "hang", "exit", "segfault", "flood")
    with serving(tmp_path, HOSTILE / "hostile.py", name="hostile", **options) as elemta:
        with bystander(elemta) as calm:
            elemta.wait_for(lambda: len(calm) >= CALM, "dialogues of a bystander")
        with bystander(elemta) as dialogues, ThreadPoolExecutor(len(deeds)) as clients:
            began = time.monotonic()
            replies = list(clients.map(lambda deed: try_sender(elemta, deed), deeds))
            ended = time.monotonic()
        assert {reply[:10] for reply in replies} == {"451 4.3.0 "}
        assert_not_held_up(calm, dialogues, (began, ended))
        blamed = {event["plugin"] for event in elemta.events("plugin_error")}
        assert blamed == {"hostile"}


def test_limits_of_the_configuration_hold(tmp_path):
    options = {"limits": {"memory": 300_000_000}, "on_error": "reject"}
    with serving(tmp_path, HOSTILE / "hostile.py", name="hostile", **options) as elemta:
        assert try_sender(elemta, "nothing").startswith("250 ")
        [host] = plugin_hosts(elemta)
        held = Path(f"/proc/{host}/limits").read_text()
        assert "Max address space         300000000            300000000 " in held
        elemta.reload("memory = 300000000", "memory = 400000000, files = 50")
        elemta.wait_for(lambda: len(plugin_hosts(elemta)) == 1, "the end of the old process")
        held = Path(f"/proc/{plugin_hosts(elemta)[0]}/limits").read_text()
        assert "Max address space         400000000            400000000 " in held
        assert "Max open files            50                   50 " in held
        assert try_sender(elemta, "descriptors").startswith("554 5.3.0 ")
        [told] = elemta.wait_event("plugin_error")
        assert "Too many open files" in told["error"]


def test_a_hostile_library(tmp_path, hostile_library):
    with serving(tmp_path, hostile_library, name="hostile-c", library=True, **PATIENT) as elemta:
        attack(elemta, (*LIBRARY, *HANGING))


@pytest.mark.parametrize(("on_error", "reply"), [("reject", "554 5.3.0 "), ("continue", "250 ")])
def test_the_operator_decides_what_a_crash_means(tmp_path, on_error, reply):
    with serving(tmp_path, HOSTILE / "hostile.py", name="hostile", on_error=on_error) as elemta:
        assert try_sender(elemta, "segfault").startswith(reply)


def test_the_seeds_spam_filter_in_c(tmp_path):
    path = build(EXAMPLES / "spam_filter.c", tmp_path)
    config = '{{ "spam_threshold": 2.0, "quarantine": false }}'
    with serving(tmp_path, path, name="spam-filter", library=True, config=config) as elemta:
        elemta.send("a@b.test", "c@example.test", content=MAIL)
        assert b"X-Spam-Score: 0.0\r\n" in elemta.wait_mail("c")[0]
        with Dialogue(elemta.port) as client:
            client.hello()
            spam = b"Subject: win\r\n\r\nYou are the winner in our casino\r\n"
            reply = client.deliver(spam, "a@b.test", "c@example.test")
        assert reply.startswith("550 5.7.1 Message looks like spam")
        assert len(elemta.mailbox("c")) == 1


def test_a_plugin_in_its_process_is_reloaded_and_leaves_nothing(tmp_path):
    path = tmp_path / "greeter.py"
    path.write_text(
        textwrap.dedent("""
        from elemta.plugins import Metadata, Plugin, Result

        class Greeter(Plugin):
            metadata = Metadata(name="greeter", version="1.0")

            def on_mail_from(self, ctx):
                return Result.reject("the first")
        """)
    )
    with serving(tmp_path, path, name="greeter") as elemta:
        assert "the first" in try_sender(elemta, "a")
        loaded = tmp_path / "plugins" / "greeter.py"
        loaded.write_text(loaded.read_text().replace("the first", "the second"))
        elemta.reload("auto_load = false", "auto_load = false\nhot_reload = true")
        elemta.wait_for(lambda: "the second" in try_sender(elemta, "a"), "the new version")
        sockets = elemta.state / "run" / "plugins"
        elemta.wait_for(lambda: len(plugin_hosts(elemta)) == 1, "the end of the old one")
        (host,) = plugin_hosts(elemta)
        assert elemta.stop() == 0
        assert not is_there(host)
        assert list(sockets.iterdir()) == []


LEAKY = """
from elemta.plugins import Metadata, Plugin

class Leaky(Plugin):
    metadata = Metadata(name="leaky", version="1.0")
    kept = []

    def on_mail_from(self, ctx):
        self.kept.append(bytearray(1_000_000))
"""


def test_what_leaks_is_found(tmp_path):
    path = tmp_path / "leaky.py"
    path.write_text(LEAKY)
    with serving(tmp_path, path, name="leaky") as elemta:
        elemta.cli("plugins", "memory", "leaky")
        for _ in range(5):
            assert try_sender(elemta, "a").startswith("250 ")
        elemta.cli("plugins", "memory", "leaky")
        said = elemta.cli("plugins", "logs", "leaky").stdout
        assert "watched from now on" in said
        [line] = [each for each in said.split("\n") if "leaky.py:9" in each]
        assert float(line.partition("memory: ")[2].split()[0]) > 4000
        elemta.reload('isolation = "process"', 'isolation = "none"')
        done = elemta.cli("plugins", "memory", "leaky", check=False)
        assert done.returncode == 1
        assert "runs in the worker" in done.stderr


def test_a_killed_server_takes_its_plugins_along(tmp_path):
    with serving(tmp_path, HOSTILE / "hostile.py", name="hostile") as elemta:
        hosts = elemta.wait_for(lambda: plugin_hosts(elemta), "a plugin host")
        elemta.kill()
        elemta.wait_for(lambda: not any(is_there(pid) for pid in hosts), "the end of its plugins")


def plugin_hosts(elemta):
    """The processes of plugins that belong to a server."""
    family = {elemta.process.pid}
    hosts = []
    for _ in range(3):
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in family:
                    family.add(int(entry.name))
                    if b"elemta.plugins.remote.host" in (entry / "cmdline").read_bytes():
                        hosts.append(int(entry.name))
    return sorted(set(hosts))


def is_there(pid):
    """Whether a process lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


ADDRESS = """
[plugins]
auto_load = false
[[plugins.plugin]]
name = "{name}"
address = "{address}"
config = {config}
"""


@pytest.mark.timeout(300)  # npm fetches packages
def test_a_plugin_in_javascript(tmp_path):
    script = install(tmp_path / "node")
    with node_plugin(script, tmp_path) as address:
        rest = MAILDIR + ADDRESS.format(
            name="word-filter", address=address, config='{{ words = ["lottery"] }}'
        )
        with running(tmp_path / "server", rest=rest) as elemta:
            elemta.send("a@b.test", "c@example.test", content=MAIL)
            assert len(elemta.wait_mail("c")) == 1
            with Dialogue(elemta.port) as client:
                client.hello()
                spam = b"Subject: win\r\n\r\nThe lottery\r\n"
                reply = client.deliver(spam, "a@b.test", "c@example.test")
            assert reply == "554 5.7.1 Not here"


def test_mail_waits_until_a_plugin_that_is_a_server_is_back(tmp_path):
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(python_plugin(tmp_path))
        rest = MAILDIR + ADDRESS.format(name="counter", address=address, config="{{ most = 1 }}")
        with running(tmp_path / "server", rest=rest + 'timeout = "5s"\n') as elemta:
            elemta.send("a@b.test", "c@example.test", content=MAIL)
            elemta.wait_for(
                lambda: "That was enough" in try_sender(elemta, "a"), "what the plugin has counted"
            )
            stack.close()
            assert try_sender(elemta, "a").startswith("451 4.3.0 ")
            (tmp_path / "python.sock").unlink(missing_ok=True)
            stack.enter_context(python_plugin(tmp_path))
            elemta.wait_for(lambda: try_sender(elemta, "a").startswith("250"), "the plugin")
