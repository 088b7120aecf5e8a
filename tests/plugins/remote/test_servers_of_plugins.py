"""Plugins in other languages and processes, asked at their addresses."""

import asyncio

import pytest
from plugins.remote.outside import envelope, message, outside
from plugins.remote.servers_of_plugins import install, node_plugin, python_plugin

from elemta.mail.errors import PluginError


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    return install(tmp_path_factory.mktemp("node") / "plugin")


def mail(text, size=0):
    return message(b"Subject: x\r\n\r\n" + b"x" * size + text + b"\r\n")


async def test_a_plugin_in_javascript(tmp_path, script):
    config = {"words": ["lottery", "prize"]}
    with node_plugin(script, tmp_path) as address:
        async with outside(tmp_path, address, config=config, name="word-filter") as it:
            context = envelope()
            context.session.helo = "client.test"
            assert await it.plugin.on_mail_from(context) is None
            assert context.metadata == {"greeted": "client.test"}
            result = await it.plugin.on_filter(mail(b"the lottery"))
            assert str(result.reply) == "554 5.7.1 Not here"
            assert result.note == "word: lottery"
            assert await it.plugin.on_filter(mail(b"the weather")) is None
            sizes = range(0, 20_000, 100)
            results = await asyncio.gather(
                *(it.plugin.on_filter(mail(b"prize", size)) for size in sizes)
            )
            assert all(result.note == "word: prize" for result in results)


async def test_a_plugin_in_javascript_judges_its_settings(tmp_path, script):
    trouble = pytest.raises(PluginError, match="words: at least one is needed")
    with node_plugin(script, tmp_path) as address, trouble:
        async with outside(tmp_path, address):
            pass


async def test_a_plugin_in_python_that_is_a_server(tmp_path):
    with python_plugin(tmp_path) as address:
        async with outside(tmp_path, address, config={"most": 0}, name="counter") as it:
            result = await it.plugin.on_mail_from(envelope())
            assert str(result.reply) == "451 4.7.1 That was enough"
