"""Scanning once the message is in the queue."""

import asyncio

import pytest
from servers.clamd import EICAR, VIRUS
from servers.process import free_port

from elemta.plugins import Action
from elemta.plugins.builtin.clamav import Clamav
from elemta.plugins.builtin.rspamd import Rspamd
from elemta.testing import PluginBench
from tests.plugins.builtin.scanning.between import between

CLEAN = b"Subject: hello\r\n\r\nhello\r\n"
INFECTED = b"Subject: hello\r\n\r\n" + EICAR + b"\r\n"
SOFT = b"Subject: soft\r\n\r\nhello\r\n"


def bench(kind, server, **settings):
    about = {"servers": [str(server)], "probe_every": 0, "where": "queue"}
    return PluginBench(kind, about | settings)


async def receive(it, content) -> None:
    """It is not looked at yet."""
    await it.mail_from()
    answer = await it.filter(content)
    assert (answer.action, answer.edits) == (Action.CONTINUE, ())


@pytest.mark.parametrize("what", ["quarantine", "discard"])
async def test_a_late_refusal_tells_nobody(clamd, what):
    async with bench(Clamav, clamd.socket, late_refusal=what) as it:
        await receive(it, INFECTED)
        answer = await it.pre_delivery(INFECTED)
        assert answer.action == what
        assert answer.note == f"virus: {VIRUS}"


async def test_several_destinations_scan_once(clamd):
    port = int(clamd.tcp.rpartition(":")[2])
    async with between(port) as proxy, bench(Clamav, proxy.address) as it:
        await receive(it, CLEAN)
        names = [f"mx:{n}.example.test" for n in range(5)]
        answers = await asyncio.gather(
            *(it.pre_delivery(CLEAN, destination=name) for name in names)
        )
        assert {answer.action for answer in answers} == {Action.CONTINUE}
        assert {answer.edits[0].value for answer in answers} == {"Clean"}
        await it.pre_delivery(CLEAN, attempts=1)
        assert proxy.connections == 1
        await it.pre_delivery(CLEAN, queue_id="another")
        assert proxy.connections == 2


async def test_mail_that_is_not_concerned(clamd):
    async with bench(Clamav, clamd.socket, scan_trusted=False) as it:
        await it.connect("192.0.2.1", is_trusted=True)
        await receive(it, INFECTED)
        assert (await it.pre_delivery(INFECTED)).action is Action.CONTINUE
        await it.connect("192.0.2.1")
        await receive(it, INFECTED)
        assert (await it.pre_delivery(INFECTED)).action is Action.QUARANTINE


async def test_a_change_of_mind_forgets_no_mail(clamd):
    """What was received while the scanner worked in the queue is scanned there."""
    notes = {"clamav.later": '{"ip":"192.0.2.1"}'}
    async with bench(Clamav, clamd.socket, where="dialogue") as it:
        answer = await it.pre_delivery(INFECTED, notes=notes)
        assert answer.action is Action.QUARANTINE


@pytest.mark.parametrize(
    ("what", "action"),
    [
        ("defer", "defer"),
        ("continue", "continue"),
        ("quarantine", "quarantine"),
        ("reject", "quarantine"),
    ],
)
async def test_nobody_answers(what, action):
    place = f"127.0.0.1:{free_port()}"
    async with bench(Clamav, place, on_failure=what, late_refusal="discard") as it:
        await receive(it, CLEAN)
        answer = await it.pre_delivery(CLEAN)
        assert (answer.action, answer.error) == (action, "")
        if what == "continue":
            assert answer.edits[0].value.startswith("Not scanned")


async def test_rspamd_knows_the_client_and_may_change_its_mind(rspamd):
    async with bench(Rspamd, rspamd.address, tag=False) as it:
        await it.connect("192.0.2.77")
        await it.helo("client.example.org")
        facts = b"Subject: facts\r\n\r\nhello\r\n"
        await receive(it, facts)
        (told,) = (await it.pre_delivery(facts)).edits
        assert "ip=192.0.2.77 helo=client.example.org" in told.value
        assert it.count("actions", action="no_action") == 1
        for count in (1, 2):
            answer = await it.pre_delivery(SOFT, queue_id="soft")
            assert answer.action is Action.DEFER
            assert it.count("actions", action="soft_reject") == count
        grey = b"Subject: grey\r\n\r\nhello\r\n"
        assert (await it.pre_delivery(grey, queue_id="grey")).action is Action.CONTINUE
