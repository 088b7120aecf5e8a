"""A plugin that runs as a server of its own: it counts mail of each sender's domain, for ever.

    python plugin.py unix:/run/counter.sock

elemta.toml:

    [[plugins.plugin]]
    name = "counter"
    address = "unix:/run/counter.sock"

Nothing of Elemta but the protocol is needed here: in other languages it looks much the same.
"""

import asyncio
import collections
import json
import sys
from collections.abc import AsyncIterator

import grpc

from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb

Asked = grpc.aio.ServicerContext
counts: collections.Counter[str] = collections.Counter()


async def describe(
    _request: pb.DescribeRequest, _context: grpc.aio.ServicerContext
) -> pb.Description:
    """Say who this is, and what it wants to hear."""
    return pb.Description(
        protocol=1, name="counter", version="1.0.0", hooks=["on_mail_from", "message_stored"]
    )


def judge(call: pb.Call, most: int) -> pb.Answer:
    """Answer one call."""
    answer = pb.Answer(id=call.id)
    if call.hook == "on_stored":
        counts[call.entry.sender.domain] += 1
    elif counts[call.envelope.sender.domain] >= most:
        answer.action = pb.Answer.DEFER
        answer.text = "That was enough"
    return answer


async def session(
    requests: AsyncIterator[pb.FromServer], context: grpc.aio.ServicerContext
) -> None:
    """Talk to one worker of the server until it goes."""
    most = 100
    async for message in requests:
        what = message.WhichOneof("what")
        if what == "hello":
            most = json.loads(message.hello.config).get("most", most)
            await context.write(pb.FromPlugin(ready=pb.Ready()))
        elif what == "call":
            await context.write(pb.FromPlugin(answer=judge(message.call, most)))
        elif what == "order":
            await context.write(pb.FromPlugin(done=pb.Done(id=message.order.id)))


async def main(address: str) -> None:
    """Serve until somebody ends this process."""
    server = grpc.aio.server()
    methods = {
        "Describe": grpc.unary_unary_rpc_method_handler(
            describe, pb.DescribeRequest.FromString, pb.Description.SerializeToString
        ),
        "Session": grpc.stream_stream_rpc_method_handler(
            session, pb.FromServer.FromString, pb.FromPlugin.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("elemta.plugin.v1.PluginHost", methods),)
    )
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
