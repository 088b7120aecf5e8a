"""doorman.py as a server of its own: python doorman_server.py ADDRESS"""

import asyncio
import sys

import grpc

from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb

ACTIONS = ("continue", "accept", "reject", "defer", "discard", "quarantine")
HOOKS = ("on_connect", "on_starttls", "on_auth_start", "on_auth")


async def describe(_request, _context):
    return pb.Description(protocol=1, name="doorman", version="1.0.0", hooks=HOOKS)


def name_of(call):
    if call.hook == "on_auth":
        return "auth_completed" if call.credentials.authenticated else "auth_failed"
    events = ("connection_opened", "connection_upgraded", "auth_started")
    return events[HOOKS.index(call.hook)]


def tell(call):
    told, session = call.credentials, call.session
    words = [session.client_ip, name_of(call), told.username or "-", told.mechanism or "-"]
    words += [str(len(told.password)), session.tls_version or "-", session.helo or "-"]
    return " ".join(words)


def judge(call):
    answer = pb.Answer(id=call.id)
    network, _, number = call.session.client_ip.rpartition(".")
    action, dot, rest = call.credentials.username.partition(".")
    when = {"on_auth_start": ".start", "on_auth": ".end"}.get(call.hook)
    if call.hook == "on_starttls":
        action = ACTIONS[int(number)] if network.startswith("127.2.") else "continue"
    elif f"{dot}{rest}" != when:
        action = "continue"
    if action in ACTIONS[1:]:
        answer.action = pb.Answer.Action.Value(action.upper())
        answer.note = "as asked"
        answer.text = {"reject": "Not you", "defer": "Not now"}.get(action, "")
    return answer


async def session(requests, context):
    async for message in requests:
        what = message.WhichOneof("what")
        if what == "hello":
            await context.write(pb.FromPlugin(ready=pb.Ready()))
        elif what == "call":
            line = pb.Log(level="info", text=tell(message.call))
            await context.write(pb.FromPlugin(log=line))
            await context.write(pb.FromPlugin(answer=judge(message.call)))
        elif what == "order":
            await context.write(pb.FromPlugin(done=pb.Done(id=message.order.id)))


async def main(address):
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


asyncio.run(main(sys.argv[1]))
