"""A Python plugin in a process of its own works as it would in the worker."""

import asyncio
import hashlib
import textwrap

import pytest
from plugins.remote.outside import envelope, message, outside, session

from elemta.mail.address import Address
from elemta.mail.errors import PluginError
from elemta.plugins import AddHeader, HelloContext, RecipientContext
from elemta.plugins.remote.link import LinkLost
from elemta.plugins.result import Result

PLUGIN = """
    import asyncio
    import hashlib

    from elemta.plugins import AddHeader, Metadata, Plugin, Result, Settings

    print("I am read")

    class Options(Settings):
        word: str = "none"
        is_broken: bool = False

    class Own(Plugin):
        metadata = Metadata(
            name="own", version="1.2", author="me", description="all", dependencies=("spf>=1",)
        )
        Settings = Options
        independent = True

        async def setup(self):
            if self.settings.is_broken:
                raise RuntimeError("no disk")
            print("I am", self.settings.word)

        async def enable(self):
            self.tools.log.info("enabled")

        async def disable(self):
            raise OSError("stuck")

        async def self_check(self):
            self.tools.log.info("checked")

        async def close(self):
            self.tools.log.info("closed")

        def on_helo(self, ctx):
            ctx.log.warning(f"{ctx.name} from {ctx.session.client_ip}")
            ctx.log.debug("not to be seen")
            ctx.metrics.count("helos", who=ctx.name)
            ctx.metrics.observe("length", len(ctx.name))
            ctx.set_metadata("greeted", ctx.get_metadata("before") or "?")
            return Result.reject(self.settings.word, code=554, enhanced="5.7.0", note="why")

        async def on_mail_from(self, ctx):
            count = await ctx.kv.increment("seen", 2, ttl=60)
            await ctx.kv.set("last", str(ctx.sender).encode())
            last = await ctx.kv.get("last")
            await ctx.kv.delete("last")
            gone = await ctx.kv.get("last")
            return Result.defer(f"{count} {last} {gone}")

        async def on_rcpt_to(self, ctx):
            await ctx.kv.set("x", b"x" * 100_000)

        async def on_filter(self, ctx):
            first = await ctx.read(10)
            digest, size = hashlib.sha256(), 0
            async for piece in ctx.chunks():
                digest.update(piece)
                size += len(piece)
            return Result.modify(AddHeader("X-Seen", f"{first!r} {size} {digest.hexdigest()}"))

        async def on_headers(self, ctx):
            return Result.quarantine(note=await self.look(ctx))

        async def look(self, ctx):
            try:
                await ctx.read()
            except LookupError as error:
                return str(error)
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(textwrap.dedent(PLUGIN))
    return file


def hello(name="client"):
    context = HelloContext("on_helo", session(), name, "EHLO")
    context.metadata["before"] = "yes"
    return context


async def test_what_it_is_told_and_says_gets_across(tmp_path, path):
    async with outside(tmp_path, path, config={"word": "go away"}) as it:
        assert it.plugin.metadata.author == "me"
        assert list(it.plugin.metadata.dependencies) == ["spf>=1"]
        assert it.plugin.independent
        context = hello()
        result = await it.plugin.on_helo(context)
        assert result == Result.reject("go away", code=554, enhanced="5.7.0", note="why")
        assert context.metadata == {"before": "yes", "greeted": "yes"}
        figures = it.toolbox.figures["own"]
        assert list(figures.counters["helos"].values()) == [1]
        assert list(figures.histograms) == ["length"]
        assert it.said() == ["I am read", "I am go away", "client from 192.0.2.9"]


async def test_its_keys_and_values_are_those_of_the_server(tmp_path, path):
    async with outside(tmp_path, path) as it:
        for count in (2, 4):
            result = await it.plugin.on_mail_from(envelope())
            assert result.reply.text == f"{count} b'a@example.test' None"
        with pytest.raises(PluginError, match="65536 octets"):
            await it.plugin.on_rcpt_to(rcpt())


def rcpt():
    return RecipientContext("on_rcpt_to", session(), None, (), Address("b", "example.test"), False)


@pytest.mark.parametrize("size", [100, 64 * 1024, 64 * 1024 + 1, 3_000_000])
async def test_it_reads_messages_of_any_size(tmp_path, path, size):
    content = (b"Subject: x\r\n\r\n" + bytes(range(256)) * (size // 256 + 1))[:size]
    async with outside(tmp_path, path) as it:
        result = await it.plugin.on_filter(message(content))
    digest = hashlib.sha256(content).hexdigest()
    assert result.edits == (AddHeader("X-Seen", f"{content[:10]!r} {size} {digest}"),)


async def test_headers_come_without_a_body(tmp_path, path):
    async with outside(tmp_path, path) as it:
        result = await it.plugin.on_headers(message(b"Subject: x\r\n\r\nbody", "on_headers"))
    assert result.note == "the body has not been received yet"


async def test_many_calls_are_under_way_at_a_time(tmp_path, path):
    async with outside(tmp_path, path) as it:
        calls = [it.plugin.on_filter(message(b"A: b\r\n\r\n" + b"x" * n)) for n in range(200)]
        results = await asyncio.gather(*calls)
    assert [result.edits[0].value.split()[-2] for result in results] == [
        str(n + 8) for n in range(200)
    ]


async def test_its_life_is_that_of_a_plugin(tmp_path, path):
    async with outside(tmp_path, path) as it:
        await it.plugin.self_check()
        await it.plugin.enable()
        with pytest.raises(PluginError, match="OSError: stuck"):
            await it.plugin.disable()
    assert it.said() == ["I am read", "I am none", "checked", "enabled", "closed"]


@pytest.mark.parametrize(
    ("config", "trouble"),
    [
        ({"is_broken": True}, "RuntimeError: no disk"),
        ({"wort": "x"}, "wort: Extra inputs"),
        ({"is_broken": "perhaps"}, "is_broken: "),
    ],
)
async def test_it_may_not_want_its_settings(tmp_path, path, config, trouble):
    with pytest.raises(PluginError, match=trouble):
        async with outside(tmp_path, path, config=config):
            pass
    assert list((tmp_path / "run" / "plugins").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("nonsense(", "SyntaxError"),
        ("import no_such_module_at_all", "ModuleNotFoundError"),
        ("x = 1", "defines no class"),
        ("import os\nos._exit(3)", "exited with 3"),
        ("raise SystemExit(4)", "SystemExit"),
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
        (
            "from elemta.plugins import *\nclass A(Plugin):\n metadata=Metadata(name='A B')",
            "lower-case",
        ),
        (
            "from elemta.plugins import *\nclass A(Plugin):\n metadata=Metadata(name='a')\n"
            " def on_hello(self, ctx): pass",
            "there is no hook on_hello",
        ),
    ],
)
async def test_code_that_is_no_plugin_is_told_so(tmp_path, code, trouble):
    path = tmp_path / "odd.py"
    path.write_text(code)
    with pytest.raises(PluginError, match=trouble):
        async with outside(tmp_path, path):
            pass
    assert list((tmp_path / "run" / "plugins").iterdir()) == []


async def test_what_it_declares_it_may_do(tmp_path):
    (tmp_path / "read.txt").write_text("read me")
    (tmp_path / "own").mkdir()
    (tmp_path / "hidden.txt").write_text("not me")
    path = tmp_path / "able.py"
    path.write_text(
        textwrap.dedent(f"""
        import asyncio
        from elemta.plugins import Metadata, Plugin, Result

        class Able(Plugin):
            metadata = Metadata(
                name="able",
                files=("{tmp_path}/read.txt", "{tmp_path}/own:rw"),
                network=("127.0.0.1:{{port}}",),
            )

            async def on_mail_from(self, ctx):
                open("{tmp_path}/own/new", "w").write(open("{tmp_path}/read.txt").read())
                reader, writer = await asyncio.open_connection("127.0.0.1", {{port}})
                note = (await reader.read()).decode()
                for attempt in (
                    lambda: open("{tmp_path}/hidden.txt"),
                    lambda: open("{tmp_path}/read.txt", "a"),
                ):
                    try:
                        attempt()
                    except PermissionError:
                        note += " refused"
                try:
                    await asyncio.open_connection("127.0.0.1", {{other}})
                except PermissionError:
                    note += " closed"
                return Result.quarantine(note=note)
        """)
    )

    async def greet(_reader, writer):
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, other:
        ports = [each.sockets[0].getsockname()[1] for each in (server, other)]
        text = path.read_text().replace("{port}", str(ports[0])).replace("{other}", str(ports[1]))
        path.write_text(text)
        async with outside(tmp_path, path) as it:
            result = await it.plugin.on_mail_from(envelope())
    assert result.note == "hello refused refused closed"
    assert (tmp_path / "own" / "new").read_text() == "read me"


async def test_a_plugin_that_fails_again_and_again_is_left_alone(tmp_path):
    path = tmp_path / "frail.py"
    path.write_text(
        textwrap.dedent("""
        import os
        from elemta.plugins import Metadata, Plugin

        class Frail(Plugin):
            metadata = Metadata(name="frail")

            def on_mail_from(self, ctx):
                os._exit(1)
        """)
    )
    async with outside(tmp_path, path) as it:
        for number in range(1, 6):
            calls = [it.plugin.on_mail_from(envelope()) for _ in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, LinkLost) for result in results)
            assert ("suspended" in it.changes()) == (number == 5)
        with pytest.raises(PluginError, match="5 times in a row"):
            await it.plugin.on_mail_from(envelope())
        assert "suspended" in it.changes()


async def test_a_long_path_is_no_trouble(tmp_path, path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with outside(folder, path) as it:
        assert await it.plugin.on_helo(hello()) is not None
        own = it.plugin._place._own
        assert not own.is_relative_to(tmp_path)
        assert own.stat().st_mode & 0o777 == 0o700
    assert not own.exists()
