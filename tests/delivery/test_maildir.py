"""Delivery into maildirs."""

import asyncio
import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from elemta.delivery import mailbox
from elemta.delivery.mailbox import Letter
from elemta.delivery.maildir import FILES_AT_ONCE, Maildir, fill
from elemta.delivery.settings import Route, Via
from elemta.mail.address import Address, parse_address
from elemta.mail.errors import CorruptError
from elemta.mail.ids import format_queue_id
from elemta.mail.job import Destination, Job
from elemta.mail.message import Facts, Message, Recipient
from elemta.mail.outcome import Outcome, Result
from elemta.net import steps

CONTENT = b"Received: from x\r\nSubject: hi\r\n\r\nbody\r\n.dot\r\nna\xefve\r\n\r\n"


class Content:
    """Content as the queue hands it over: in memory, or in pieces that may fail to come."""

    def __init__(self, content: bytes, *, piece: int = 0, broken_after: int | None = None):
        self.size = len(content)
        self.data = None if piece else content
        self._content = content
        self._piece = piece
        self._broken_after = broken_after
        self.readers = 0

    async def chunks(self):
        self.readers += 1
        try:
            for number, at in enumerate(range(0, self.size, self._piece)):
                if number == self._broken_after:
                    raise CorruptError("not as it was written")
                await asyncio.sleep(0)
                yield self._content[at : at + self._piece]
        finally:
            self.readers -= 1


class Post:
    """A maildir delivery below a folder of the test."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.events = []
        self.route = Route(
            domains=("*",), via=Via.MAILDIR, path=f"{folder}/mail/{{domain}}/{{local}}"
        )
        self.maildir = Maildir("mail.example.test", self.events.append)

    def job(
        self, *recipients: str | Address, content=None, sender="s@sender.test", number=7
    ) -> Job:
        content = Content(CONTENT) if content is None else content
        parsed = [parse_address(each) if isinstance(each, str) else each for each in recipients]
        return Job(
            Message(
                queue_id=format_queue_id(number),
                sender=parse_address(sender) if sender else None,
                size=content.size,
                received_at=1_700_000_000.25,
            ),
            tuple(Recipient(index, address) for index, address in enumerate(parsed)),
            Destination("maildir:test"),
            content,
        )

    async def deliver(self, *recipients: str | Address, **more) -> list[Outcome]:
        return await self.maildir.deliver(self.job(*recipients, **more), self.route)

    def files(self, mailbox: str, part: str = "new") -> list[bytes]:
        folder = self.folder / "mail" / mailbox / part
        return [path.read_bytes() for path in sorted(folder.iterdir())]

    def all_files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
def post(tmp_path: Path):
    post = Post(tmp_path)
    yield post
    post.maildir.close()


def _said(outcome: Outcome) -> tuple[Result, int, str | None]:
    return outcome.result, outcome.reply.code, outcome.reply.enhanced


def _open_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_content_is_kept_octet_for_octet_below_the_trace(post: Post) -> None:
    (outcome,) = await post.deliver("User@example.test")
    assert outcome.result is Result.DELIVERED
    assert outcome.reply.enhanced == "2.0.0"
    assert outcome.method == "maildir"
    assert post.files("example.test/user") == [
        b"Return-Path: <s@sender.test>\r\nDelivered-To: User@example.test\r\n" + CONTENT
    ]
    assert post.files("example.test/user", "tmp") == []
    assert post.files("example.test/user", "cur") == []


async def test_the_null_sender(post: Post) -> None:
    await post.deliver("u@example.test", sender="")
    assert post.files("example.test/u")[0].startswith(b"Return-Path: <>\r\n")


async def test_only_the_owner_may_read(post: Post) -> None:
    await post.deliver("u@example.test")
    for path in (post.folder / "mail").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert stat.S_IMODE((post.folder / "mail").stat().st_mode) == 0o700


async def test_file_names_follow_the_rules_of_maildirs(post: Post) -> None:
    await post.deliver("u@example.test")
    (path,) = post.all_files()
    assert path.name == (
        f"1700000000.M250000Q{format_queue_id(7)}R0.mail.example.test,S={path.stat().st_size}"
    )
    odd = Maildir("a/b:c", post.events.append)
    await odd.deliver(post.job("v@example.test"), post.route)
    odd.close()
    (name,) = [path.name for path in post.all_files() if path.parent.parent.name == "v"]
    assert r".a\057b\072c," in name


async def test_each_recipient_gets_a_file(post: Post) -> None:
    outcomes = await post.deliver("a@example.test", "b@example.test", "a@example.test")
    assert [outcome.result for outcome in outcomes] == [Result.DELIVERED] * 3
    assert len(post.files("example.test/a")) == 2
    assert b"Delivered-To: b@example.test\r\n" in post.files("example.test/b")[0]


async def test_an_attempt_that_is_repeated_replaces_its_own_file(post: Post) -> None:
    await post.deliver("u@example.test")
    (path,) = post.all_files()
    leftover = path.parent.parent / "tmp" / path.name
    leftover.write_bytes(b"half a mess" * 100)
    await post.deliver("u@example.test")
    assert post.all_files() == [path]
    assert path.read_bytes().endswith(CONTENT)


async def test_different_messages_never_share_a_file(post: Post) -> None:
    await asyncio.gather(*(post.deliver("u@example.test", number=n) for n in range(60)))
    assert len(post.files("example.test/u")) == 60


@pytest.mark.parametrize("piece", [1, 7, 50, 10_000])
async def test_large_content_is_streamed(post: Post, piece: int) -> None:
    content = Content(CONTENT * 3, piece=piece)
    outcomes = await post.deliver("a@example.test", "b@example.test", content=content)
    assert [outcome.result for outcome in outcomes] == [Result.DELIVERED] * 2
    head = b"Return-Path: <s@sender.test>\r\nDelivered-To: a@example.test\r\n"
    assert post.files("example.test/a") == [head + CONTENT * 3]
    assert post.files("example.test/b")[0].endswith(b"b@example.test\r\n" + CONTENT * 3)
    assert content.readers == 0


async def test_many_recipients_of_large_content_do_not_need_many_files_at_once(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    really = mailbox.append

    def append(letter: Letter, content: bytes) -> None:
        nonlocal most
        most = max(most, _open_handles())
        really(letter, content)

    monkeypatch.setattr(mailbox, "append", append)
    before = _open_handles()
    recipients = [f"u{n}@example.test" for n in range(FILES_AT_ONCE * 2 + 3)]
    outcomes = await post.deliver(*recipients, content=Content(CONTENT, piece=30))
    assert {outcome.result for outcome in outcomes} == {Result.DELIVERED}
    assert len(post.all_files()) == len(recipients)
    assert most - before <= FILES_AT_ONCE + 10  # the threads' own
    assert _open_handles() - before <= 10


@pytest.mark.parametrize("piece", [0, 5, 4096])
@pytest.mark.parametrize(
    ("fields", "looping"),
    [
        (b"Delivered-To: u@example.test\r\n", True),
        (b"Subject: x\r\ndelivered-to:U@EXAMPLE.test\r\n", True),
        (b"Delivered-To: other@example.test\r\nDelivered-To:\r\n <u@example.test>\r\n", True),
        (b"Delivered-To: other@example.test\r\n", False),
        (b"X-Delivered-To: u@example.test\r\n", False),
        (b"Subject: Delivered-To: u@example.test\r\n", False),
        (b"Delivered-To: \xff nonsense <<<\r\n", False),
        (b"", False),
    ],
)
async def test_a_message_that_was_here_before_fails(
    post: Post, fields: bytes, looping: bool, piece: int
) -> None:
    content = fields + b"Subject: y\r\n\r\nDelivered-To: u@example.test\r\n"
    (outcome,) = await post.deliver("u@example.test", content=Content(content, piece=piece))
    if looping:
        assert _said(outcome) == (Result.FAILED, 554, "5.4.6")
        assert post.all_files() == []
    else:
        assert outcome.result is Result.DELIVERED


async def test_the_header_section_known_from_reception_is_used(post: Post) -> None:
    content = b"Delivered-To: u@example.test\r\n\r\nbody\r\n"
    job = post.job("u@example.test", content=Content(content))
    message = Message(job.message.queue_id, None, 1, 1.0, facts=Facts(header_size=32))
    (outcome,) = await post.maildir.deliver(
        Job(message, job.recipients, job.destination, job.content), post.route
    )
    assert outcome.reply.enhanced == "5.4.6"


async def test_only_the_recipient_that_loops_fails(post: Post) -> None:
    content = Content(b"Delivered-To: a@example.test\r\n" + CONTENT)
    looped, fine = await post.deliver("a@example.test", "b@example.test", content=content)
    assert looped.result is Result.FAILED
    assert fine.result is Result.DELIVERED
    assert len(post.all_files()) == 1


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (Address("User", "example.test"), "example.test/user"),
        (Address("first.last+tag", "example.test"), "example.test/first.last+tag"),
        (Address("..", "example.test"), "example.test/%2E."),
        (Address(".", "example.test"), "example.test/%2E"),
        (Address(".hidden", "example.test"), "example.test/%2Ehidden"),
        (Address("../../etc/passwd", "example.test"), "example.test/%2E.%2F..%2Fetc%2Fpasswd"),
        (Address("/etc/passwd", "example.test"), "example.test/%2Fetc%2Fpasswd"),
        (Address("a\\b", "example.test"), "example.test/a%5Cb"),
        (Address("a%2fb", "example.test"), "example.test/a%252fb"),
        (Address("{domain}", "example.test"), "example.test/%7Bdomain%7D"),
        (Address("a b:c", "example.test"), "example.test/a%20b%3Ac"),
        (Address("", "example.test"), "example.test/%"),
        (Address("u\n", "example.test"), "example.test/u%0A"),
        (Address("j\u00f6rg", "example.test"), "example.test/j%C3%B6rg"),
        (Address("u\u2215x", "example.test"), "example.test/u%E2%88%95x"),
        (Address("u", "[127.0.0.1]"), "%5B127.0.0.1%5D/u"),
        (Address("u", "[IPv6:::1]"), "%5BIPv6%3A%3A%3A1%5D/u"),
    ],
)
def test_whatever_an_address_is_its_folder_is_one_harmless_name(
    address: Address, expected: str
) -> None:
    filled = fill("/mail/{domain}/{local}", address)
    assert filled == f"/mail/{expected}"


def test_different_mailboxes_get_different_folders_and_equal_ones_the_same() -> None:
    different = ["a/b", "a%2Fb", "a_b", "", "%", ".a", "%2Ea", "a\u00e9", "ae"]
    folders = {fill("/m/{local}", Address(local, "d.test")) for local in different}
    assert len(folders) == len(different)
    same = ["J\u00f6rg", "j\u00d6RG", "jo\u0308rg"]
    assert len({fill("/m/{local}", Address(local, "d.test")) for local in same}) == 1


def test_only_the_placeholders_of_the_route_are_filled_in() -> None:
    address = Address("u", "d.test")
    assert fill("/m/{local}/{domain}/{local}.box", address) == "/m/u/d.test/u.box"
    assert fill("/m/{other}/all", address) == "/m/{other}/all"


async def test_a_hostile_recipient_stays_below_its_domain(post: Post) -> None:
    await post.deliver(Address("../../../../escaped", "example.test"), Address("..", "e.test"))
    assert {path.name for path in post.folder.iterdir()} == {"mail"}
    assert {path.name for path in (post.folder / "mail").iterdir()} == {"example.test", "e.test"}
    assert len(post.all_files()) == 2


async def test_a_name_too_long_for_the_file_system_fails(post: Post) -> None:
    long, fine = await post.deliver(Address("/" * 100, "d.test"), Address("x" * 200, "d.test"))
    assert _said(long) == (Result.FAILED, 550, "5.1.1")
    assert fine.result is Result.DELIVERED


@pytest.mark.parametrize("call", ["open", "writev", "fdatasync", "replace", "fsync"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errno.ENOSPC, (Result.DEFERRED, 452, "4.3.1")),
        (errno.EDQUOT, (Result.DEFERRED, 452, "4.2.2")),
        (errno.EACCES, (Result.DEFERRED, 451, "4.3.0")),
        (errno.EIO, (Result.DEFERRED, 451, "4.3.0")),
    ],
)
@pytest.mark.parametrize("piece", [0, 30])
async def test_trouble_with_the_file_system_is_temporary(
    post: Post, monkeypatch: pytest.MonkeyPatch, call: str, error: int, expected, piece: int
) -> None:
    await post.deliver("u@example.test", number=1)
    before = post.all_files()
    handles = _open_handles()

    def fail(*_args, **_more):
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        outcomes = await post.deliver("u@example.test", content=Content(CONTENT, piece=piece))
    assert [_said(outcome) for outcome in outcomes] == [expected]
    assert os.strerror(error) not in outcomes[0].reply.text
    assert os.strerror(error) in post.events[0].detail
    if call != "fsync":  # there it may have become durable all the same: the retry replaces it
        assert post.all_files() == before
    assert _open_handles() <= handles + 2  # threads that began
    (outcome,) = await post.deliver("u@example.test")
    assert outcome.result is Result.DELIVERED
    assert len(post.files("example.test/u")) == 2


async def test_a_disk_that_fills_up_in_mid_message_leaves_nothing(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post.deliver("u@example.test", number=1)

    def fail(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", fail)
    (outcome,) = await post.deliver("u@example.test", content=Content(CONTENT, piece=20))
    assert _said(outcome) == (Result.DEFERRED, 452, "4.3.1")
    assert len(post.all_files()) == 1


async def test_what_the_system_takes_in_parts_is_written_whole(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, writev = os.write, os.writev
    monkeypatch.setattr(os, "writev", lambda handle, parts: writev(handle, [parts[0][:10]]))
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, bytes(data[:3])))
    for number, piece in enumerate((0, 40)):
        await post.deliver("u@example.test", content=Content(CONTENT, piece=piece), number=number)
    head = b"Return-Path: <s@sender.test>\r\nDelivered-To: u@example.test\r\n"
    assert post.files("example.test/u") == [head + CONTENT] * 2


async def test_a_file_where_the_mailbox_should_be(post: Post) -> None:
    (post.folder / "mail").mkdir()
    (post.folder / "mail" / "example.test").write_text("in the way")
    blocked, fine = await post.deliver("u@example.test", "u@other.test")
    assert _said(blocked) == (Result.DEFERRED, 451, "4.3.0")
    assert fine.result is Result.DELIVERED


async def test_a_link_in_place_of_the_file_is_not_followed(post: Post) -> None:
    await post.deliver("u@example.test")
    (path,) = post.all_files()
    victim = post.folder / "victim"
    victim.write_text("precious")
    path.unlink()
    (path.parent.parent / "tmp" / path.name).symlink_to(victim)
    (outcome,) = await post.deliver("u@example.test")
    assert outcome.result is Result.DEFERRED
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("broken_after", [0, 2])
async def test_content_that_cannot_be_read_leaves_nothing(post: Post, broken_after: int) -> None:
    handles = _open_handles()
    content = Content(CONTENT, piece=20, broken_after=broken_after)
    with pytest.raises(CorruptError):
        await post.deliver("a@example.test", "b@example.test", content=content)
    assert post.all_files() == []
    assert _open_handles() <= handles + 10


async def test_a_cancelled_delivery_leaves_nothing_and_closes_its_files(post: Post) -> None:
    gate = asyncio.Event()

    class Stuck(Content):
        async def chunks(self):
            yield CONTENT
            gate.set()
            await asyncio.Event().wait()

    handles = _open_handles()
    task = asyncio.ensure_future(
        post.deliver("u@example.test", content=Stuck(CONTENT * 2, piece=len(CONTENT)))
    )
    async with asyncio.timeout(20):
        await gate.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert post.all_files() == []
    assert _open_handles() <= handles + 10


async def test_one_mailbox_made_by_many_at_once(post: Post) -> None:
    outcomes = await asyncio.gather(
        *(post.deliver("u@example.test", number=number) for number in range(40))
    )
    assert {outcome.result for (outcome,) in outcomes} == {Result.DELIVERED}
    assert len(post.files("example.test/u")) == 40


@pytest.mark.parametrize("piece", [0, 30])
async def test_the_durable_steps_come_in_order(
    post: Post, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    seen: list[tuple[str, str]] = []
    lock = threading.Lock()

    def note(name: str) -> None:
        with lock:
            where = {path.parent.name for path in post.all_files()}
            seen.append((name.removeprefix("maildir."), "".join(where)))

    monkeypatch.setattr(steps, "on_step", note)
    await post.deliver("u@example.test", content=Content(CONTENT, piece=piece))
    assert seen == [
        ("written", "tmp"),
        ("synced", "tmp"),
        ("renamed", "new"),
        ("folder_synced", "new"),
    ]


async def test_what_counts_as_delivered_has_been_synced(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(really):
        def sync(handle: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
            really(handle)

        return sync

    monkeypatch.setattr(os, "fdatasync", note(os.fdatasync))
    monkeypatch.setattr(os, "fsync", note(os.fsync))
    await post.deliver("u@example.test")
    (path,) = post.all_files()
    home = path.parent.parent
    # the folders from the top, then the file, then the folder that has its name
    parents = [post.folder, post.folder / "mail", home.parent, home, home, home]
    expected = [*parents, home / "tmp" / path.name, home / "new"]
    assert synced == [str(each) for each in expected]


async def test_a_defect_reaches_the_caller(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_handle: int) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        for number in range(10):  # more than there are threads
            with pytest.raises(ZeroDivisionError):
                await post.deliver("u@example.test", number=number)
    (outcome,) = await post.deliver("u@example.test")
    assert outcome.result is Result.DELIVERED
