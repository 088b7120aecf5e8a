"""The plugin's side of the protocol, around a plugin in Python (or one that looks like it)."""

import asyncio
import inspect
import json
import math
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from pydantic import PydanticUserError, ValidationError

from elemta.mail.errors import PluginError
from elemta.net.clock import SystemClock
from elemta.net.tasks import spawn
from elemta.plugins.asking.defects import describe
from elemta.plugins.contexts import ConnectionContext, Context, EnvelopeContext
from elemta.plugins.finding.inspection import hooks_of
from elemta.plugins.plugin import Plugin
from elemta.plugins.remote.answers import judge_size, to_answer
from elemta.plugins.remote.calls import from_call
from elemta.plugins.remote.lent import LentCounters, LentLog, LentResolver, LentStore
from elemta.plugins.remote.memory import Memory
from elemta.plugins.remote.outbox import Outbox
from elemta.plugins.remote.packing import MAX_STATE, changed_notes, pack, unpack
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.remote.reading import Reading
from elemta.plugins.settings import Limits
from elemta.plugins.tooling.cache import BoundedCache
from elemta.plugins.tools import Tools

PROTOCOL = 1
MAX_WRITTEN = 2000  # characters of what went wrong


class Service:
    """Serves one plugin to one session.

    Args:
        limits: What takes more computing than they allow is ended by the kernel; larger answers
            fail.
        body_size: Octets of a body that takes the place of a message's.

    Attributes:
        plugin: What is served; set before the server starts.
        over: Set when the session has ended.
    """

    plugin: type[Plugin[Any]]

    def __init__(self, limits: Limits, body_size: int) -> None:
        self.over = asyncio.Event()
        self._limits = limits
        self._body_size = body_size
        self._is_taken = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """What gRPC is to call."""
        return grpc.method_handlers_generic_handler(
            "elemta.plugin.v1.PluginHost",
            {
                "Describe": grpc.unary_unary_rpc_method_handler(
                    self._describe,
                    request_deserializer=pb.DescribeRequest.FromString,
                    response_serializer=pb.Description.SerializeToString,
                ),
                "Session": grpc.stream_stream_rpc_method_handler(
                    self._session,
                    request_deserializer=pb.FromServer.FromString,
                    response_serializer=pb.FromPlugin.SerializeToString,
                ),
            },
        )

    async def _describe(self, _request: pb.DescribeRequest, _: object) -> pb.Description:
        metadata = self.plugin.metadata
        return pb.Description(
            protocol=PROTOCOL,
            name=metadata.name,
            version=metadata.version,
            author=metadata.author,
            description=metadata.description,
            license=metadata.license,
            dependencies=metadata.dependencies,
            min_server_version=metadata.min_server_version,
            max_server_version=metadata.max_server_version,
            network=metadata.network,
            files=metadata.files,
            only_in_worker=metadata.only_in_worker,
            hooks=hooks_of(self.plugin),
            prefetch=getattr(self.plugin, "prefetch", 64 * 1024),
            independent=self.plugin.independent,
            settings_schema=_schema(self.plugin),
            hands_over=True,
        )

    async def _session(self, requests: AsyncIterator[pb.FromServer], context: Any) -> None:  # noqa: ANN401 - gRPC's
        if self._is_taken:  # it belongs to the worker that has started it
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "there is a session")
        self._is_taken = True
        session = _Session(self.plugin, self._limits, self._body_size)
        writer = spawn(session.write(context), "answers")
        try:
            async for message in requests:
                await session.take(message)
        finally:
            writer.cancel()
            self.over.set()


class _Session:
    """What goes on between one worker and the plugin."""

    def __init__(self, plugin: type[Plugin[Any]], limits: Limits, body_size: int) -> None:
        self._class = plugin
        self._limits = limits
        self._body_size = body_size
        self._memory = Memory()
        self._outbox: Outbox[pb.FromPlugin] = Outbox()
        self._plugin: Plugin[Any] | None = None
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._readings: dict[int, Reading] = {}
        self._store = LentStore(self._outbox.put)
        self._dns = LentResolver(self._outbox.put)

    async def write(self, context: Any) -> None:  # noqa: ANN401 - gRPC's
        while True:
            await context.write(await self._outbox.get())

    async def take(self, message: pb.FromServer) -> None:
        """Do what one message asks for."""
        what = message.WhichOneof("what")
        if what == "call":
            self._begin(message.call)
        elif what == "cancel" and message.cancel.id in self._calls:
            self._calls[message.cancel.id].cancel()
        elif what == "chunk" and message.chunk.id in self._readings:
            self._readings[message.chunk.id].take(message.chunk)
        elif what == "kept":
            self._store.take(message.kept)
        elif what == "found":
            self._dns.take(message.found)
        elif what == "hello":
            _ = spawn(self._hello(message.hello), "hello")
        elif what == "order":
            _ = spawn(self._order(message.order), "order")

    async def _hello(self, hello: pb.Hello) -> None:
        ready = pb.Ready()
        clock = SystemClock()
        tools = Tools(
            LentLog(self._outbox.put, is_debug=hello.debug),
            LentCounters(self._outbox.put),
            self._store,
            BoundedCache(clock),
            clock,
            self._dns,
            hello.hostname,
        )
        try:
            if hello.protocol != PROTOCOL:
                raise PluginError(f"this is version {PROTOCOL} of the protocol")  # noqa: TRY301
            # as in the worker: of JSON text defaults of some types would not be taken
            settings = self._class.Settings.model_validate(json.loads(hello.config))
            plugin = self._class(settings, tools)
            plugin.tools = tools
            await plugin.setup()
            self._plugin = plugin
        except ValidationError as error:
            ready.error = "; ".join(_problem(each) for each in error.errors())[:MAX_WRITTEN]
        except Exception as error:  # noqa: BLE001 - a plugin's defect is its own
            ready.error = describe(error)[:MAX_WRITTEN]
        self._outbox.put(pb.FromPlugin(ready=ready))

    async def _order(self, order: pb.Order) -> None:
        done = pb.Done(id=order.id)
        try:
            await self._orders()[order.kind](order, done)
        except Exception as error:  # noqa: BLE001 - as above
            done.error = describe(error)[:MAX_WRITTEN]
        self._outbox.put(pb.FromPlugin(done=done))

    def _orders(self) -> dict[int, Callable[[pb.Order, pb.Done], Awaitable[None]]]:
        plugin = self._ready_plugin()
        return {
            pb.Order.SELF_CHECK: lambda _order, _done: plugin.self_check(),
            pb.Order.ENABLE: lambda _order, _done: plugin.enable(),
            pb.Order.DISABLE: lambda _order, _done: plugin.disable(),
            pb.Order.CLOSE: lambda _order, _done: plugin.close(),
            pb.Order.HAND_OVER: self._hand_over,
            pb.Order.TAKE_OVER: self._take_over,
            pb.Order.MEMORY: self._measure,
        }

    async def _hand_over(self, _order: pb.Order, done: pb.Done) -> None:
        done.state = pack(self._ready_plugin().hand_over(), MAX_STATE)

    async def _take_over(self, order: pb.Order, _done: pb.Done) -> None:
        self._ready_plugin().take_over(unpack(order.state))

    async def _measure(self, _order: pb.Order, done: pb.Done) -> None:
        done.report = self._memory.report()

    def _ready_plugin(self) -> Plugin[Any]:
        if self._plugin is None:
            raise PluginError("the plugin is not ready")
        return self._plugin

    def _begin(self, call: pb.Call) -> None:
        """Ask the plugin; what needs no waiting is answered at once."""
        limit_cpu(self._limits.cpu)
        reading = Reading(call, self._outbox.put)
        try:
            plugin = self._ready_plugin()
            context = from_call(call, reading)
            context.tools = plugin.tools
            answer = getattr(plugin, call.hook)(context)
        except Exception as error:  # noqa: BLE001 - as above
            self._outbox.put(pb.FromPlugin(answer=_failure(call.id, error)))
            return
        if not inspect.isawaitable(answer):
            self._answer(call, context, answer)
            return
        self._readings[call.id] = reading
        self._calls[call.id] = spawn(self._await(call, context, answer), call.hook)

    async def _await(self, call: pb.Call, context: Context, answer: Awaitable[Any]) -> None:
        try:
            self._answer(call, context, await answer)
        except asyncio.CancelledError:
            self._outbox.put(pb.FromPlugin(answer=pb.Answer(id=call.id, error="cancelled")))
        except Exception as error:  # noqa: BLE001 - as above
            self._outbox.put(pb.FromPlugin(answer=_failure(call.id, error)))
        finally:
            del self._calls[call.id], self._readings[call.id]

    def _answer(self, call: pb.Call, context: Context, result: Any) -> None:  # noqa: ANN401 - whatever it says
        try:
            answer = to_answer(call.id, result, call.metadata, context.metadata)
            if isinstance(context, ConnectionContext):
                notes, gone = changed_notes(call.session.notes, context.session.notes)
                answer.notes.update(notes)
                answer.dropped_notes.extend(gone)
            if isinstance(context, EnvelopeContext):
                before, after = call.message_notes, context.message.notes
                left = {name: text for name, text in after.items() if before.get(name) != text}
                answer.message_notes.update(left)
                answer.dropped_message_notes.extend(name for name in before if name not in after)
            judge_size(answer, self._limits.reply_size, self._body_size)
        except Exception as error:  # noqa: BLE001 - no result at all
            answer = _failure(call.id, error)
        self._outbox.put(pb.FromPlugin(answer=answer))


def limit_cpu(seconds: int) -> None:
    """Have the kernel end this process when it computes for so long from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime) + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _schema(plugin: type[Plugin[Any]]) -> str:
    """Describe its settings, where they can be described."""
    try:
        return json.dumps(plugin.Settings.model_json_schema())
    except (PydanticUserError, TypeError, ValueError):
        return ""


def _failure(call_id: int, error: Exception) -> pb.Answer:
    return pb.Answer(id=call_id, error=describe(error)[:MAX_WRITTEN] or "failed")


def _problem(error: Any) -> str:  # noqa: ANN401 - pydantic's
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])
