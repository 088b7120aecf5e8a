"""A plugin that somebody else runs at an address, well-behaved or not."""

import asyncio
import contextlib

import grpc
import pytest
from plugins.remote.outside import envelope, message, outside
from servers.process import free_port

from elemta.mail.errors import PluginError
from elemta.plugins.remote import breaker
from elemta.plugins.remote.answers import AnswerError
from elemta.plugins.remote.breaker import Breaker, Suspended
from elemta.plugins.remote.link import LinkLost
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.result import Result
from elemta.testing.clock import FakeClock

HOOKS = ("on_mail_from", "message_filtered")


class Stranger:
    """A gRPC server that answers calls as a function says."""

    def __init__(self, answer=None, ready="", state=b"", **said):
        self.address = f"127.0.0.1:{free_port()}"
        self.answer = answer or (lambda call: [pb.FromPlugin(answer=pb.Answer(id=call.id))])
        self.ready = ready
        self.state = state
        self.said = {"protocol": 1, "name": "remote", "version": "1", "hooks": HOOKS, **said}
        self.heard = []
        self.server = None

    async def describe(self, request, context):
        return pb.Description(**self.said)

    async def session(self, requests, context):
        async for wish in requests:
            self.heard.append(wish)
            match wish.WhichOneof("what"):
                case "hello":
                    await context.write(pb.FromPlugin(ready=pb.Ready(error=self.ready)))
                case "order":
                    await context.write(
                        pb.FromPlugin(done=pb.Done(id=wish.order.id, state=self.state))
                    )
                case "call":
                    for reply in self.answer(wish.call):
                        await context.write(reply)
                case "chunk":
                    for reply in self.answer(wish.chunk):
                        await context.write(reply)

    def write(self, message):
        return message if isinstance(message, bytes) else message.SerializeToString()

    async def start(self):
        handlers = {
            "Describe": grpc.unary_unary_rpc_method_handler(
                self.describe, pb.DescribeRequest.FromString, pb.Description.SerializeToString
            ),
            "Session": grpc.stream_stream_rpc_method_handler(
                self.session, pb.FromServer.FromString, self.write
            ),
        }
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("elemta.plugin.v1.PluginHost", handlers),)
        )
        self.server.add_insecure_port(self.address)
        await self.server.start()


@contextlib.asynccontextmanager
async def stranger(answer=None, **options):
    there = Stranger(answer, **options)
    await there.start()
    try:
        yield there
    finally:
        await there.server.stop(None)


def saying(**answer):
    return lambda call: [pb.FromPlugin(answer=pb.Answer(id=call.id, **answer))]


async def test_it_is_asked_and_told_its_settings(tmp_path):
    answer = saying(action="REJECT", text="no", metadata={"a": "b"})
    async with (
        stranger(answer) as there,
        outside(tmp_path, there.address, config={"depth": 3}, timeout=7) as it,
    ):
        context = envelope()
        assert await it.plugin.on_mail_from(context) == Result.reject("no")
        assert context.metadata == {"a": "b"}
        await it.plugin.enable()
    hello = there.heard[0].hello
    assert (hello.config, hello.hostname) == ('{"depth": 3}', "mx.example.test")
    assert 6000 < there.heard[1].call.timeout_ms <= 7000
    orders = [wish.order.kind for wish in there.heard if wish.HasField("order")]
    assert orders == [pb.Order.ENABLE, pb.Order.CLOSE]


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ({"protocol": 2}, "version 2 of the protocol"),
        ({"name": "No Name"}, "lower-case"),
        ({"version": ""}, "version"),
        ({"hooks": ["on_hello"]}, "there is no hook on_hello"),
        ({"ready": "not with these"}, "not with these"),
    ],
)
async def test_a_description_that_makes_no_sense_is_refused(tmp_path, said, trouble):
    async with stranger(**said) as there:
        with pytest.raises(PluginError, match=trouble):
            async with outside(tmp_path, there.address):
                pass


async def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setattr("elemta.plugins.remote.process.CONNECT_TIMEOUT", 0.2)
    with pytest.raises(PluginError, match="nobody answers"):
        async with outside(tmp_path, f"127.0.0.1:{free_port()}"):
            pass


async def test_another_service_is_no_plugin(tmp_path):
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with pytest.raises(PluginError, match="UNIMPLEMENTED"):
        async with outside(tmp_path, f"127.0.0.1:{port}"):
            pass
    await server.stop(None)


@pytest.mark.parametrize(
    "answer",
    [
        saying(action=99),
        saying(action="REJECT", code=250),
        saying(metadata={"x": "y" * 70_000}),
        saying(metadata={str(number): "" for number in range(300)}),
    ],
)
async def test_an_answer_that_makes_no_sense_is_an_error(tmp_path, answer):
    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        with pytest.raises(AnswerError):
            await it.plugin.on_mail_from(envelope())
        assert it.changes() == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda call: [pb.FromPlugin(answer=pb.Answer(id=call.id + 1))],
        lambda call: [pb.FromPlugin(read=pb.Read(id=call.id, reading=1, pieces=16))] * 100,
    ],
    ids=["unasked", "greedy"],
)
async def test_a_stream_that_makes_no_sense_is_ended(tmp_path, answer):
    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        with pytest.raises(LinkLost):
            await it.plugin.on_filter(message(b"A: b\r\n\r\n" + b"x" * 9_000_000))


async def test_what_is_not_known_is_left_alone(tmp_path):
    def answer(call):
        return [pb.FromPlugin(), *saying(note="x")(call)]

    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        assert await it.plugin.on_mail_from(envelope()) is None


async def test_a_plugin_that_comes_back_is_asked_again(tmp_path):
    async with stranger() as there, outside(tmp_path, there.address) as it:
        assert await it.plugin.on_mail_from(envelope()) is None
        await it.plugin.enable()
        link = it.plugin._link
        await there.server.stop(None)
        await asyncio.shield(link.lost)
        there.heard.clear()
        await there.start()
        assert await it.plugin.on_mail_from(envelope()) is None
        kinds = [wish.WhichOneof("what") for wish in there.heard]
        assert kinds == ["hello", "order", "call"]
        assert it.changes()[-1] == "restored"


async def test_a_message_is_sent_piece_by_piece_as_it_is_asked_for(tmp_path):
    pieces = []

    def answer(wish):
        if isinstance(wish, pb.Call):
            return [pb.FromPlugin(read=pb.Read(id=wish.id, reading=1, pieces=2))]
        pieces.append(wish.data)
        if wish.last:
            return saying(note="all")(wish)
        if len(pieces) % 2:
            return []
        return [pb.FromPlugin(read=pb.Read(id=wish.id, reading=1, pieces=2))]

    content = b"A: b\r\n\r\n" + b"x" * 4500
    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        assert await it.plugin.on_filter(message(content)) is None
    assert [len(piece) for piece in pieces] == [1000, 1000, 1000, 1000, 508, 0]
    assert b"".join(pieces) == content


async def test_the_start_of_a_message_comes_with_the_call(tmp_path):
    async with stranger(prefetch=100) as there, outside(tmp_path, there.address) as it:
        for size in (50, 100, 101):
            await it.plugin.on_filter(message((b"A: b\r\n\r\n" + b"x" * 200)[:size]))
    starts = [(len(wish.call.message.start), wish.call.message.is_whole) for wish in there.heard]
    assert starts[1:4] == [(50, True), (100, True), (100, False)]


def test_a_plugin_is_tried_again_after_a_pause():
    clock, told = FakeClock(), []
    fuse = Breaker(clock.monotonic, told.append)
    for _ in range(breaker.FAILURES):
        fuse.check()
        fuse.failed()
    with pytest.raises(Suspended):
        fuse.check()
    clock.advance(breaker.PAUSE)
    fuse.check()
    with pytest.raises(Suspended):
        fuse.check()  # one call tries, the others do not wait for it
    fuse.failed()
    clock.advance(breaker.PAUSE)
    fuse.check()
    fuse.succeeded()
    fuse.check()
    assert told == ["suspended", "resumed"]
