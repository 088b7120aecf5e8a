"""What the file says by default is what the rooms do by default."""

from pathlib import Path

import pytest

from elemta.app import settings as derive
from elemta.config import Config
from elemta.delivery import DeliverySettings
from elemta.net.resolver import DnsSettings
from elemta.queue import QueueSettings
from elemta.queue.spool.spool import SpoolSettings
from elemta.server import SessionSettings

CONFIG = Config()


@pytest.mark.parametrize(
    ("derived", "own"),
    [
        (derive.session_settings(CONFIG), SessionSettings(hostname="localhost")),
        (derive.queue_settings(CONFIG, 0), QueueSettings()),
        (derive.delivery_settings(CONFIG, 0), DeliverySettings()),
    ],
    ids=["server", "queue", "delivery"],
)
def test_rooms_agree(derived, own):
    assert derived == own


def test_the_spool_and_the_resolver_agree():
    spool, dns = SpoolSettings(), DnsSettings()
    queue = CONFIG.queue
    assert (queue.inline_size, queue.min_free_space, queue.compression) == (
        spool.inline_size,
        spool.min_free_space,
        spool.compression,
    )
    theirs = CONFIG.dns
    assert (theirs.timeout, theirs.cache_size, theirs.min_ttl, theirs.max_ttl) == (
        dns.timeout,
        dns.cache_size,
        dns.min_ttl,
        dns.max_ttl,
    )
    assert (theirs.nameservers, theirs.trust_ad) == (dns.nameservers, dns.trust_ad)
    assert CONFIG.server.state_dir == Path("var").absolute()
