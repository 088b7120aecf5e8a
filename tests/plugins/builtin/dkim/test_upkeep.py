"""Keys that come of age by themselves, while the server runs."""

import msgspec
import pytest
from plugins.builtin.dkim.signed import ED25519, OTHER_RSA, RSA, keep

from elemta.plugins.builtin.dkim.keystore import KeyState, find_store
from elemta.plugins.builtin.dkim.rotation import DAY
from elemta.plugins.builtin.dkim.upkeep import Upkeep
from elemta.testing import FakeClock, FakeResolver

NEW = "new._domainkey.example.test"


class Log:
    """What is told to the operator."""

    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(text)

    error = info


class Place:
    """A folder of keys, a DNS, and who sees to both."""

    def __init__(self, folder):
        self.store = keep(folder, "example.test", "old", RSA)
        keep(folder, "example.test", "new", OTHER_RSA, KeyState.PENDING)
        self.clock, self.dns, self.log = FakeClock(), FakeResolver({}), Log()
        self.upkeep = Upkeep(self.store, self.dns, self.clock, self.log, 7 * DAY)

    def publish(self, key=OTHER_RSA):
        self.dns.zone[NEW] = {"TXT": [key.record()]}

    def states(self):
        return {each.selector: str(each.state) for each in self.store.entries("example.test")}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "keys")


async def test_a_key_takes_over_and_the_old_one_goes(place):
    assert await place.upkeep.see_to_all() == float("inf")
    assert place.states() == {"old": "active", "new": "pending"}
    place.publish()
    assert await place.upkeep.see_to_all() == 300.0  # the TTL
    place.clock.advance(299)
    assert await place.upkeep.see_to_all() == 1.0
    place.clock.advance(1)
    await place.upkeep.see_to_all()
    assert place.states() == {"old": "retiring", "new": "active"}
    assert place.store.private_key("example.test", "old")
    place.clock.advance(7 * DAY)
    await place.upkeep.see_to_all()
    assert place.states() == {"old": "retired", "new": "active"}
    assert not place.store.key_path("example.test", "old").exists()
    assert place.log.lines == [
        "the key old of example.test is retiring now",
        "the key new of example.test is active now",
        "the key old of example.test is retired now",
    ]


async def test_another_key_in_the_dns(place):
    place.publish(ED25519)
    await place.upkeep.see_to_all()
    place.clock.advance(DAY)
    await place.upkeep.see_to_all()
    assert place.states() == {"old": "active", "new": "pending"}


async def test_a_dns_that_is_down_in_between(place):
    place.publish()
    await place.upkeep.see_to_all()
    place.dns.zone[NEW] = None
    place.clock.advance(300)
    await place.upkeep.see_to_all()  # it has been there for long enough all the same
    assert place.states()["new"] == "active"


async def test_nothing_to_do_asks_nobody(place):
    active = msgspec.structs.replace
    place.store.edit(
        "example.test",
        lambda entries: tuple(active(each, state=KeyState.ACTIVE) for each in entries),
    )
    before = place.store.stamp("example.test")
    await place.upkeep.see_to_all()
    assert place.dns.questions == []
    assert place.store.stamp("example.test") == before


async def test_two_workers_see_to_the_same_keys(place):
    other = Upkeep(place.store, place.dns, place.clock, place.log, 7 * DAY)
    place.publish()
    for step in (0, 300):
        place.clock.advance(step)
        await place.upkeep.see_to_all()
        await other.see_to_all()
    assert place.states() == {"old": "retiring", "new": "active"}
    assert len(place.log.lines) == 2


async def test_trouble_is_told_once_and_stops_nobody(place, tmp_path):
    keep(tmp_path / "keys", "broken.test", "s", RSA)
    index = place.store.folder / "broken.test" / "keys.json"
    index.write_bytes(b"{")
    place.publish()
    for _ in range(3):
        await place.upkeep.see_to_all()
        place.clock.advance(300)
    assert place.states()["new"] == "active"
    assert sum("is not as it was written" in line for line in place.log.lines) == 1


async def test_a_folder_that_is_not_where_it_should_be_is_told_of_once(place, tmp_path):
    volume = tmp_path / "volume"
    upkeep = Upkeep(find_store(str(volume), tmp_path), place.dns, place.clock, place.log, 7 * DAY)
    for _ in range(2):
        await upkeep.see_to_all()
    assert place.log.lines == [f"{volume}: there is no such folder of keys (keys_dir)"]
    volume.mkdir()
    await upkeep.see_to_all()
    volume.rmdir()
    await upkeep.see_to_all()
    assert len(place.log.lines) == 2


async def test_the_folder_of_the_state_need_not_be_there(place, tmp_path):
    upkeep = Upkeep(find_store("", tmp_path), place.dns, place.clock, place.log, 7 * DAY)
    await upkeep.see_to_all()
    assert place.log.lines == []
