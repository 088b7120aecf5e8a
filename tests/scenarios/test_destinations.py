"""How much goes to a destination at once, over which connections, and in what order."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers.elemta import Elemta, running
from servers.next_hop import OFFERS, NextHop, serving

CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["by-name.test"]
via = "smtp"
host = "localhost"
port = {port}
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
[delivery]
ipv6 = false
{delivery}
[[queue.priorities]]
senders = ["urgent@example.test"]
priority = "critical"
[[queue.priorities]]
senders = ["high@example.test"]
priority = "high"
[[queue.priorities]]
senders = ["bulk@example.test"]
priority = "bulk"
"""


def configured(hop: NextHop, **delivery: int) -> str:
    lines = "\n".join(f"{name} = {value}" for name, value in delivery.items())
    return CONFIG.format(port=hop.port, delivery=lines)


def send_many(server: Elemta, count: int, domain: str = "other.test") -> None:
    """From many clients, so that each worker has its share."""

    def send(number: int) -> None:
        server.send("a@example.test", f"{number}@{domain}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(count)))


def deliver_all(server: Elemta, hop: NextHop, count: int, open_at_once: int) -> None:
    """Send while the next hop is slow, see so many connections, then let it go on."""
    hop.hold()
    send_many(server, count)
    server.wait_for(lambda: hop.open == open_at_once, f"{open_at_once} connections")
    hop.release()
    arrived(server, hop, count)


def arrived(server: Elemta, hop: NextHop, count: int) -> None:
    server.wait_for(lambda: len(hop.taken) >= count, f"{count} messages")
    assert len(hop.taken) == len(set(hop.recipients())) == count


@pytest.mark.parametrize(("workers", "limit"), [(1, 1), (1, 4), (2, 2), (2, 5)])
def test_no_more_connections_than_allowed(tmp_path, workers, limit):
    """On the whole node, however many workers there are."""
    hop = NextHop(delay=0.01)
    with serving(hop):
        rest = configured(hop, max_connections_per_destination=limit)
        with running(tmp_path, rest=rest, workers=workers) as server:
            server.wait_event("worker_started", workers)
            deliver_all(server, hop, 60, open_at_once=limit)
            assert hop.most_open == limit


def test_no_more_connections_than_allowed_to_all_together(tmp_path):
    """Idle ones are counted: they give way."""
    hop = NextHop(delay=0.01)
    with serving(hop):
        rest = configured(hop, max_connections=3, max_connections_per_destination=3)
        with running(tmp_path, rest=rest) as server:
            deliver_all(server, hop, 20, open_at_once=3)
            for domain in ("by-name.test", "other.test"):
                send_many(server, 20, domain)
            server.wait_event("message_delivered", 60)
            assert hop.most_open == 3
            assert hop.sessions > 3


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[1:]], ids=["pipelining", "in turns"])
def test_connections_are_used_again_and_commands_sent_together(tmp_path, offers):
    hop = NextHop(offers=offers)
    with serving(hop):
        with running(tmp_path, rest=configured(hop, max_connections_per_destination=2)) as server:
            deliver_all(server, hop, 50, open_at_once=2)
        assert hop.sessions == 2
        assert {each.is_pipelined for each in hop.taken} == {"PIPELINING" in offers}


def test_a_connection_is_not_used_for_ever(tmp_path):
    hop = NextHop()
    limits = {"max_connections_per_destination": 2, "max_messages_per_connection": 7}
    with serving(hop), running(tmp_path, rest=configured(hop, **limits)) as server:
        deliver_all(server, hop, 50, open_at_once=2)
        messages = Counter(each.session for each in hop.taken)
        assert max(messages.values()) == 7
        assert 8 <= hop.sessions <= 9
        assert hop.most_open == 2


@pytest.mark.parametrize("last_word", ["", "421 4.4.2 idle for too long"])
def test_a_connection_lost_between_messages_is_no_failure(tmp_path, last_word):
    transactions = 0

    def impatient(stage: str, _about: str) -> str | None:
        nonlocal transactions
        transactions = 0 if stage == "greeting" else transactions + (stage == "mail")
        return last_word if stage == "mail" and transactions > 1 else None

    hop = NextHop(impatient)
    with serving(hop):
        rest = configured(hop, max_connections_per_destination=1)
        with running(tmp_path, rest=rest) as server:
            send_many(server, 10)
            arrived(server, hop, 10)
            assert hop.sessions == 10
            assert not server.events("message_deferred")


@pytest.fixture
def queue(tmp_path):
    """A destination with one connection, which is busy; what is sent now must queue."""
    hop = NextHop()
    with serving(hop):
        rest = configured(hop, max_connections=1, max_connections_per_destination=1)
        with running(tmp_path, rest=rest) as server:
            hop.hold()
            server.send("a@example.test", "busy@other.test")
            server.wait_for(lambda: hop.sessions, "the first attempt")
            yield server, hop


def order(server: Elemta, hop: NextHop, count: int) -> list[str]:
    """The senders, in the order in which they are served."""
    hop.release()
    arrived(server, hop, count + 1)
    return [each.sender.partition("@")[0] for each in hop.taken[1:]]


def test_what_is_urgent_goes_before_all_and_high_before_bulk(queue):
    server, hop = queue
    for sender in ("bulk", "normal", "high", "urgent"):
        for number in range(6):
            server.send(f"{sender}@example.test", f"{sender}{number}@other.test")
    served = order(server, hop, 24)
    assert served[:6] == ["urgent"] * 6
    places = {name: [i for i, each in enumerate(served) if each == name] for name in served}
    middle = {name: sum(found) / len(found) for name, found in places.items()}
    assert middle["urgent"] < middle["high"] < middle["normal"] < middle["bulk"]
    # by weight, so that nobody starves: eight of high for one of bulk
    assert served.index("bulk") < max(places["normal"])
    assert max(places["high"]) <= 6 + 6 + 4


def test_senders_take_turns(queue):
    """Who has sent a heap does not keep others waiting for all of it."""
    served = heap_and_few(queue, "other.test", "other.test")
    assert max(place for place, each in enumerate(served) if each == "few") <= 2 * 12


def test_senders_to_different_places_take_turns(queue):
    """By ten recipients at a time."""
    served = heap_and_few(queue, "by-name.test", "other.test")
    places = [place for place, each in enumerate(served) if each == "few"]
    assert places[0] <= 10
    assert places[-1] <= 10 + 10 + 10 + 12


def heap_and_few(queue, *domains: str) -> list[str]:
    server, hop = queue
    for sender, count, domain in zip(("heap", "few"), (40, 12), domains, strict=True):
        for number in range(count):
            server.send(f"{sender}@{sender}.test", f"{sender}{number}@{domain}")
    served = order(server, hop, 52)
    own = [each.recipients[0] for each in hop.taken if each.sender == "few@few.test"]
    assert own == [f"few{number}@{domains[1]}" for number in range(12)]
    return served
