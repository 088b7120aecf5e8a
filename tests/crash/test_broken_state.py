"""What a server makes of state that was harmed while it was stopped: it starts, and mail goes on.

What it had accepted is delivered as it came, or shown as corrupt, or its remains are moved aside.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from servers.dialogue import Dialogue
from servers.elemta import Elemta
from servers.process import free_port

from elemta.queue.spool import shard_folder

PAGE = 8192
INLINE = 16_000
TABLES = ("message", "content", "recipient")
MARK = b"Number: "
LINE = b"x" * 70 + b"\r\n"
SMALL, LARGE = 400, 4
REST = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
{route}
[queue]
inline_size = {inline}
retry_schedule = ["1s"]
"""
NOBODY = 'via = "lmtp"\nhost = "127.0.0.1"\nport = {port}'
MAILDIR = 'via = "maildir"\npath = "{mail}/{{domain}}/{{local}}"'


class Harmed:
    """A server, stopped with a full queue; a test does its harm, then starts it again.

    Attributes:
        accepted: What was put into the queue, by queue id.
        large: Those of them whose content is in a file.
    """

    def __init__(self, folder: Path) -> None:
        self.server = Elemta(folder, rest=with_route(NOBODY.format(port=free_port())))
        self.accepted: dict[str, bytes] = {}
        self.shard = shard_folder(self.server.state, 0)
        self.database = self.shard / "queue.db"

    def fill(self) -> None:
        """Have more mail accepted whose next hop is not there, and stop."""
        self.server.start()
        with Dialogue(self.server.port) as client:
            client.hello()
            for number in range(SMALL + LARGE):
                lines = number % 40 if number < SMALL else 500
                content = MARK + b"%d\r\n\r\n" % len(self.accepted) + LINE * lines
                reply = client.deliver(content, "a@example.org", "box@example.test")
                assert reply.startswith("250 ")
                self.accepted[reply.rpartition(" ")[2]] = content
        assert self.server.stop() == 0

    @property
    def large(self) -> set[str]:
        return {name for name, content in self.accepted.items() if len(content) > INLINE}

    def files(self) -> list[Path]:
        """The files of the spool."""
        return sorted((self.shard / "spool").iterdir())

    def set_aside(self, name: str) -> Path:
        """Where something is that was moved aside."""
        [path] = self.shard.glob(f"{name}.corrupt-*")
        return path

    def restart(self) -> tuple[set[str], set[str]]:
        """Start, with a next hop; in the end some mail is delivered, the rest in the queue corrupt.

        That was one worker, or a second one where the first met damage at work.
        """
        self.server.rest = with_route(MAILDIR)
        self.server.start()
        self.server.wait_for(self.is_at_end, "the end of the queue", 60.0)
        self.server.send("a@example.org", "new@example.test")
        self.server.wait_mail("new")
        assert len(self.server.events("worker_restarted")) <= 1
        corrupt = {queue_id for queue_id, state in self.states().items() if state == "corrupt"}
        return self.delivered(), corrupt

    def is_at_end(self) -> bool:
        """Whether only what is corrupt is in the queue; while it is salvaged nobody can tell."""
        try:
            return set(self.states().values()) <= {"corrupt"}
        except AssertionError:
            return False

    def states(self) -> dict[str, str]:
        """What the command line says of each message, which has one recipient."""
        listing = json.loads(self.server.cli("queue", "list", "--json").stdout)
        return {message["queue_id"]: message["recipients"][0]["state"] for message in listing}

    def delivered(self) -> set[str]:
        """What has arrived: nothing twice, and all just as it was sent."""
        ids = {content: queue_id for queue_id, content in self.accepted.items()}
        raws = [path.read_bytes() for path in self.server.mailbox("box")]
        arrived = [ids[raw[raw.index(MARK) :]] for raw in raws]
        assert len(arrived) == len(set(arrived))
        return set(arrived)


def with_route(route: str) -> str:
    return REST.replace("{route}", route).replace("{inline}", str(INLINE))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Harmed:
    """What tests harm copies of."""
    whole = Harmed(tmp_path_factory.mktemp("whole"))
    try:
        whole.fill()
    finally:
        whole.server.kill()
    return whole


@pytest.fixture
def harmed(whole, tmp_path) -> Iterator[Harmed]:
    harmed = Harmed(tmp_path)
    harmed.accepted = dict(whole.accepted)
    shutil.copytree(whole.server.state, harmed.server.state)
    assert {file.name for file in harmed.files()} == harmed.large
    try:
        yield harmed
    finally:
        harmed.server.kill()


def write_garbage(database: Path, pages: list[int]) -> None:
    with database.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(random.Random(page).randbytes(PAGE))


def leaves(database: Path, table: str) -> list[int]:
    """The pages, counted from 0, that hold the rows of a table."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    query = "SELECT pageno - 1 FROM dbstat WHERE name = ? AND pagetype = 'leaf'"
    pages = [page for (page,) in connection.execute(query, (table,))]
    connection.close()
    return pages


@pytest.mark.parametrize("table", TABLES)
def test_a_page_of_garbage(harmed, table):
    """Everything is delivered but what was on it, and that is shown."""
    pages = leaves(harmed.database, table)
    write_garbage(harmed.database, pages[:1])
    delivered, corrupt = harmed.restart()
    assert delivered | corrupt == set(harmed.accepted)
    assert not delivered & corrupt
    assert corrupt
    assert delivered or len(pages) == 1
    told = harmed.server.wait_event("message_corrupt", len(corrupt))
    assert sorted(event["queue_id"] for event in told) == sorted(corrupt)


@pytest.mark.parametrize("harm", ["pages", "end"])
def test_much_of_it_is_gone(harmed, harm):
    """Some is delivered, some is not even known; no file of what was not delivered is removed."""
    if harm == "pages":
        for table in TABLES:
            write_garbage(harmed.database, leaves(harmed.database, table)[::4])
    else:
        os.truncate(harmed.database, harmed.database.stat().st_size // 2)
    delivered, corrupt = harmed.restart()
    assert delivered
    assert corrupt
    assert not delivered & corrupt
    assert {file.name for file in harmed.shard.glob("spool*/*")} == harmed.large - delivered


@pytest.mark.parametrize("harm", ["garbage", "one octet", "half a page"])
def test_a_database_without_a_readable_page(harmed, harm):
    if harm == "garbage":
        write_garbage(harmed.database, [0])
    else:
        os.truncate(harmed.database, 1 if harm == "one octet" else PAGE // 2)
    before = harmed.database.read_bytes()
    assert harmed.restart() == (set(), set())
    assert harmed.set_aside("queue.db").read_bytes() == before
    check_all_aside(harmed, "queue database moved aside")


def check_all_aside(harmed: Harmed, subject: str) -> None:
    """No message is known any more; all files are kept, and the log says where."""
    aside = harmed.set_aside("spool")
    assert {file.name for file in aside.iterdir()} == harmed.large
    assert all(file.read_bytes().endswith(harmed.accepted[file.name]) for file in aside.iterdir())
    [notice] = harmed.server.events("notice")
    assert notice["subject"] == subject
    assert f"{LARGE} files that no message names are now in {aside}" in notice["detail"]
    assert harmed.files() == []


@pytest.mark.parametrize("is_empty", [True, False])
def test_no_database_but_files(harmed, is_empty):
    if is_empty:
        os.truncate(harmed.database, 0)
    else:
        harmed.database.unlink()
    assert harmed.restart() == (set(), set())
    check_all_aside(harmed, f"queue database {'moved aside' if is_empty else 'missing'}")
    assert harmed.server.stop() == 0
    harmed.server.start()  # and so it stays
    assert len(harmed.server.events("notice")) == 1
    assert len(list(harmed.set_aside("spool").iterdir())) == LARGE


def test_a_database_from_a_backup(harmed):
    backup, early = harmed.database.read_bytes(), set(harmed.accepted)
    harmed.fill()
    harmed.database.write_bytes(backup)
    assert harmed.restart() == (early, set())
    [notice] = harmed.server.wait_event("notice", subject="spool files moved aside")
    aside = harmed.set_aside("spool")
    assert f"{LARGE} files, which are now in {aside}" in notice["detail"]
    assert {file.name for file in aside.iterdir()} == harmed.large - early


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


HARMS: dict[str, Callable[[Path], None]] = {
    "truncated": lambda file: os.truncate(file, 20_000),
    "empty": lambda file: os.truncate(file, 0),
    "removed": Path.unlink,
    "flipped": flip,
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_is_not_what_was_written(harmed, harm):
    """Its message is shown as corrupt, once; all others are delivered."""
    file = harmed.files()[1]
    HARMS[harm](file)
    assert harmed.restart() == (set(harmed.accepted) - {file.name}, {file.name})
    [event] = harmed.server.wait_event("message_corrupt")
    assert event["queue_id"] == file.name
    assert harmed.server.events("worker_restarted") == []
    assert harmed.server.stop() == 0
    harmed.server.start()
    assert harmed.states() == {file.name: "corrupt"}


@pytest.mark.parametrize(
    "part", ["var", "var/queue", "var/queue/shard-0", "var/queue/shard-0/spool"]
)
def test_a_folder_is_gone(harmed, part):
    """It is made again; without its database the queue is empty, without its files it is not."""
    shutil.rmtree(harmed.server.folder / part)
    is_known = part.endswith("spool")
    small = set(harmed.accepted) - harmed.large
    assert harmed.restart() == ((small, harmed.large) if is_known else (set(), set()))
    assert harmed.server.events("notice") == []
