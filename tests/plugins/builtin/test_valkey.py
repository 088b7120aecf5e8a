"""The store that servers share, against a real one: scripts, timeouts, and coming back."""

import asyncio
import time

import pytest
from pydantic import ValidationError
from servers.certificates import Authority
from servers.nonsense import answering
from servers.process import free_port
from servers.redis import run_redis

from elemta.net.clock import SystemClock
from elemta.plugins.builtin._valkey import FAILURES, Script, Unavailable, Valkey, ValkeySettings
from elemta.testing import FakeClock

COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
def redis(tmp_path):
    with run_redis(tmp_path) as server:
        yield server


class Told:
    """What the operator is told."""

    def __init__(self):
        self.lines = []

    def __call__(self, text):
        self.lines.append(text)


async def opened(redis, clock=None, told=None, timeout=10, **settings):
    wanted = ValkeySettings(url=redis.url, timeout=timeout, **settings)
    return await Valkey.open(wanted, clock or SystemClock(), told or Told())


async def test_a_script_is_one_round_trip_once_it_is_known(redis):
    told = Told()
    store = await opened(redis, told=told)
    assert await store.run(COUNT, ["a"], [2]) == 2
    redis.command("CONFIG", "RESETSTAT")
    assert await store.run(COUNT, ["a"], [3]) == 5
    stats = redis.command("INFO", "commandstats").decode()
    assert "cmdstat_evalsha:calls=1," in stats
    assert "cmdstat_eval:" not in stats
    await store.close(told)


async def test_a_script_that_was_forgotten_is_told_again(redis):
    told = Told()
    store = await opened(redis, told=told)
    await store.run(COUNT, ["a"], [1])
    redis.command("SCRIPT", "FLUSH")
    assert await store.run(COUNT, ["a"], [1]) == 2
    await store.close(told)


async def test_plugins_of_a_worker_share_connections(redis):
    first, second = Told(), Told()
    one = await opened(redis, told=first)
    other = await opened(redis, told=second, prefix="other:")
    assert one is other
    await one.close(first)
    await one.close(first)
    assert await other.run(COUNT, ["a"], [1]) == 1
    await other.close(second)


async def test_a_store_that_is_gone_is_left_alone_and_comes_back(redis):
    clock, told = FakeClock(), Told()
    store = await opened(redis, clock, told)
    await store.run(COUNT, ["a"], [1])
    redis.kill()
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await store.run(COUNT, ["a"], [1])
    assert store.is_suspended
    redis.start()
    with pytest.raises(Unavailable, match="left alone"):
        await store.run(COUNT, ["a"], [1])
    clock.advance(1.5)
    assert await store.run(COUNT, ["a"], [1]) == 1
    assert not store.is_suspended
    assert [text.split(":")[0] for text in told.lines] == ["the store fails", "the store is back"]
    await store.close(told)


async def test_nobody_waits_longer_than_the_timeout(redis):
    told = Told()
    store = await opened(redis, told=told, timeout=1, connections=4)
    await store.run(COUNT, ["a"], [1])
    redis.pause()
    began = time.monotonic()
    calls = (store.run(COUNT, ["a"], [1]) for _ in range(50))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - began < 10  # one after the other they would take longer
    assert {type(each) for each in found} == {Unavailable}
    redis.resume()
    await store.close(told)


async def test_while_the_store_fails_one_call_tries(redis):
    clock, told = FakeClock(), Told()
    store = await opened(redis, clock, told, timeout=0.2)
    redis.pause()
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await store.run(COUNT, ["a"], [1])
    clock.advance(1.5)
    calls = (store.run(COUNT, ["a"], [1]) for _ in range(20))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum("left alone" not in str(each) for each in found) == 1
    redis.resume()
    await store.close(told)


async def test_a_password_is_needed_and_not_told(tmp_path):
    with run_redis(tmp_path, ("--requirepass", "open sesame")) as redis:
        told, other = Told(), Told()
        store = await opened(redis, told=told, password="open sesame")
        assert await store.run(COUNT, ["a"], [1]) == 1
        wrong = await opened(redis, told=other, password="open barley")
        with pytest.raises(Unavailable) as error:
            await wrong.run(COUNT, ["a"], [1])
        assert "barley" not in str(error.value)
        await store.close(told)
        await wrong.close(other)


async def test_a_unix_socket(tmp_path):
    socket = tmp_path / "redis.sock"
    with run_redis(tmp_path, ("--unixsocket", str(socket))):
        told = Told()
        store = await Valkey.open(
            ValkeySettings(url=f"unix://{socket}", timeout=10), SystemClock(), told
        )
        assert await store.run(COUNT, ["a"], [1]) == 1
        await store.close(told)


async def test_with_tls_the_store_has_to_be_who_it_says(tmp_path):
    authority = Authority(tmp_path)
    for name in ("localhost", "other.test"):
        issued = authority.issue(name)
        port = free_port()
        options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
        options += ["--tls-cert-file", str(issued.chain), "--tls-key-file", str(issued.key_file)]
        with run_redis(tmp_path, options):
            told = Told()
            settings = ValkeySettings(
                url=f"rediss://localhost:{port}/0", ca_file=str(authority.file), timeout=10
            )
            store = await Valkey.open(settings, SystemClock(), told)
            if name == "localhost":
                assert await store.run(COUNT, ["a"], [1]) == 1
            else:
                with pytest.raises(Unavailable, match="certificate"):
                    await store.run(COUNT, ["a"], [1])
            await store.close(told)


async def test_a_certificate_of_nobody_known_is_refused(tmp_path):
    issued = Authority(tmp_path).issue("localhost")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(issued.chain), "--tls-key-file", str(issued.key_file)]
    with run_redis(tmp_path, options):
        told = Told()
        settings = ValkeySettings(url=f"valkeys://localhost:{port}/0", timeout=10)
        store = await Valkey.open(settings, SystemClock(), told)
        with pytest.raises(Unavailable, match="certificate"):
            await store.run(COUNT, ["a"], [1])
        await store.close(told)


async def test_an_error_of_a_script_is_the_store_failing(redis):
    told = Told()
    store = await opened(redis, told=told)
    redis.command("LPUSH", "list", "1")
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        await store.run(COUNT, ["list"], [1])
    await store.close(told)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"*2\r\n:0\r\n",
        b"$100\r\nabc",
        b":x\r\n",
        b"*x\r\n",
        b"*4000000000\r\n:1\r\n",
        b"\x16\x03\x01\0\x01\x01",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-LOADING the data set\r\n",
        b"_\r\n" * 3,
    ],
)
@pytest.mark.parametrize("closes", [True, False])
async def test_a_store_that_dies_in_the_middle_of_an_answer_has_failed(said, closes):
    told = Told()
    async with answering(said, closes=closes) as port:
        settings = ValkeySettings(url=f"redis://127.0.0.1:{port}/0", timeout=0.1)
        store = await Valkey.open(settings, SystemClock(), told)
        for _ in range(FAILURES):
            with pytest.raises(Unavailable, match="the store fails"):
                await store.run(COUNT, ["a"], [1])
        assert len(told.lines) == 1
        await store.close(told)


@pytest.mark.parametrize("url", ["", "127.0.0.1:6379", "http://127.0.0.1", "redis:"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValidationError, match="is expected"):
        ValkeySettings(url=url)
