"""Reads plugins that run outside the worker: asks them who they are, and makes a class of it.

A plugin in a process of its own is first asked with nothing allowed to it: what it declares that
it needs is code of its own. If it needs anything, another process is started that may do that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import msgspec

from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.mail.events import Emit
from elemta.mail.reply import clean_text
from elemta.plugins.finding.inspection import judge_metadata
from elemta.plugins.finding.sources import Found, Kind
from elemta.plugins.hooks import find_hook
from elemta.plugins.plugin import Metadata
from elemta.plugins.remote.any_settings import make_model
from elemta.plugins.remote.job import Job
from elemta.plugins.remote.plugin import PROTOCOL, RemotePlugin, Route, make_class
from elemta.plugins.remote.process import (
    CONNECT_TIMEOUT,
    Address,
    Place,
    Process,
    most_received,
)
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.settings import Limits, PluginSettings, PluginsSettings

DESCRIBE = "/elemta.plugin.v1.PluginHost/Describe"
MAX_DESCRIPTION = 1024 * 1024  # octets


@dataclass(frozen=True, slots=True)
class Source:
    """A plugin outside that has been asked who it is.

    Attributes:
        plugin: The class of it.
        hooks: Those it wants.
        release: Ends what reading it has begun, unless a plugin has been made that uses it.
        adjust: Told what the operator has set, before a plugin is made and whenever it changes.
    """

    plugin: type[RemotePlugin]
    hooks: tuple[str, ...]
    release: Callable[[], None]
    adjust: Callable[[PluginSettings], None]


async def read_source(found: Found, server: PluginsSettings, emit: Emit, clock: Clock) -> Source:
    """Ask a plugin who it is.

    Raises:
        PluginError: It cannot be reached, or what it says makes no sense.
    """
    settings = found.settings or PluginSettings(found.name)
    if found.kind is Kind.ADDRESS:
        return await _read_address(settings, server, emit, clock)
    job = _job(found, settings, server)
    folder = server.state_dir / "run" / "plugins"
    description, place = await _start(Process(job, folder), server.version)
    needs = _needs(job, description)
    if needs != job:
        await place.leave()
        description, place = await _start(Process(needs, folder), server.version)

    def new_place(limits: Limits) -> Place:
        return Process(msgspec.structs.replace(needs, limits=limits), folder)

    return await _source(Route(new_place, settings, server, emit, clock), place, description)


async def _read_address(
    settings: PluginSettings, server: PluginsSettings, emit: Emit, clock: Clock
) -> Source:
    address = settings.address

    def new_place(limits: Limits) -> Place:
        return Address(address, most_received(limits, server.max_message_size))

    description, place = await _start(new_place(settings.limits), server.version)
    return await _source(Route(new_place, settings, server, emit, clock), place, description)


async def _start(place: Place, version: str) -> tuple[pb.Description, Place]:
    """Go to a plugin and ask it who it is."""
    try:
        return await _ask(await place.connect(), version), place
    except BaseException:
        await place.leave()
        raise


async def _source(route: Route, place: Place, description: pb.Description) -> Source:
    """Make sense of what a plugin says of itself."""
    try:
        metadata = _metadata(description)
        hooks = tuple(dict.fromkeys(_hook(name) for name in description.hooks))
    except PluginError:
        await place.leave()
        raise
    route.name, route.version = metadata.name, metadata.version
    route.hands_over = description.hands_over
    route.keep(place)
    plugin = make_class(
        route, metadata, hooks, description.prefetch, independent=description.independent
    )
    plugin.Settings = make_model(description.settings_schema)
    return Source(plugin, hooks, route.release, route.adjust)


def _needs(job: Job, said: pb.Description) -> Job:
    """The job with what the plugin declares that it needs."""
    return msgspec.structs.replace(job, network=tuple(said.network), files=tuple(said.files))


def _job(found: Found, settings: PluginSettings, server: PluginsSettings) -> Job:
    job = Job(found.name, limits=settings.limits, body_size=server.max_message_size)
    if found.kind is Kind.LIBRARY:
        return msgspec.structs.replace(job, library=str(_absolute(found.path)))
    if found.path is not None:
        return msgspec.structs.replace(job, path=str(_absolute(found.path)))
    return msgspec.structs.replace(job, module=found.module)


def _absolute(path: Path | None) -> Path:
    if path is None:
        raise PluginError("a file is expected")
    return path.resolve()


async def _ask(channel: grpc.aio.Channel, version: str) -> pb.Description:
    describe = channel.unary_unary(
        DESCRIBE,
        request_serializer=pb.DescribeRequest.SerializeToString,
        response_deserializer=pb.Description.FromString,
    )
    request = pb.DescribeRequest(protocol=PROTOCOL, server_version=version)
    try:
        description: pb.Description = await describe(request, timeout=CONNECT_TIMEOUT)
    except grpc.aio.AioRpcError as error:
        why = clean_text(error.details() or "")
        raise PluginError(f"does not say who it is: {error.code().name}: {why}") from None
    if description.ByteSize() > MAX_DESCRIPTION:
        raise PluginError(f"says too much of itself: more than {MAX_DESCRIPTION} octets")
    if description.protocol != PROTOCOL:
        raise PluginError(
            f"speaks version {description.protocol} of the protocol, this is {PROTOCOL}"
        )
    return description


def _metadata(said: pb.Description) -> Metadata:
    metadata = Metadata(
        name=said.name,
        version=clean_text(said.version, 100),
        author=clean_text(said.author),
        description=clean_text(said.description),
        license=clean_text(said.license),
        dependencies=tuple(said.dependencies),
        min_server_version=said.min_server_version,
        max_server_version=said.max_server_version,
        network=tuple(said.network),
        files=tuple(said.files),
        only_in_worker=said.only_in_worker,
    )
    problems = list(judge_metadata(metadata))
    if problems:
        raise PluginError("; ".join(clean_text(problem) for problem in problems))
    return metadata


def _hook(name: str) -> str:
    hook = find_hook(name)
    if hook is None:
        raise PluginError(f"there is no hook {clean_text(name, 80)}")
    return hook.name
