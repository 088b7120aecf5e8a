"""From the configuration to what keeps strangers in bounds."""

import pytest

from elemta.app.limits import WorkerLimits, limit_settings, scope_settings, shedding_settings
from elemta.config import Config, load
from elemta.mail.rate import Rate
from elemta.net.clock import SystemClock
from elemta.server.limits import Counters, LimitSettings, Threshold
from elemta.server.limits.guard import Refusal


@pytest.fixture
def config_of(tmp_path):
    def read(text: str) -> Config:
        path = tmp_path / "elemta.toml"
        path.write_text(f'[server]\nstate_dir = "{tmp_path}/var"\n' + text)
        return load(path, {})

    return read


def test_by_default_only_connections_and_logins_are_limited(config_of):
    assert limit_settings(config_of("").limits, "mta") == LimitSettings(
        connections_per_address=100,
        connections_per_network=1000,
        auth_rate=Rate(120, 60.0),
        error_delay=1.0,
    )


def test_an_override_is_about_its_kind_of_listener_and_may_lift_limits(config_of):
    limits = config_of("""
[limits]
message_rate = "10/m"
recipient_rate = "20/m"
[[limits.overrides]]
kind = "submission"
connections = 7
connections_per_address = 0
message_rate = "off"
recipient_rate = "5/s"
""").limits
    for kind, expected in (
        ("mta", (0, 100, 1000, Rate(10, 60.0), Rate(20, 60.0))),
        ("submission", (7, 0, 1000, None, Rate(5, 1.0))),
    ):
        found = limit_settings(limits, kind)
        assert (
            found.connections,
            found.connections_per_address,
            found.connections_per_network,
            found.message_rate,
            found.recipient_rate,
        ) == expected


def test_trusted_networks_are_exempt(config_of):
    config = config_of(
        '[relay]\ntrusted_networks = ["192.0.2.0/24"]\n[limits]\nexempt = ["198.51.100.0/24"]\n'
    )
    exempt = scope_settings(config.limits, config).exempt
    assert [str(network) for network in exempt] == ["192.0.2.0/24", "198.51.100.0/24"]


def test_thresholds_of_0_are_none(config_of):
    settings = shedding_settings(
        config_of("[limits.shedding]\nmemory = 0\nlag_stressed = 0\n").limits.shedding
    )
    assert settings.memory == Threshold(0.85, None)
    assert settings.lag == Threshold(None, 5.0)
    assert settings.disk_free == settings.queue_age == Threshold()


async def test_a_changed_configuration_holds_for_new_sessions(config_of):
    counters = Counters(1)
    before = config_of("[limits]\nconnections_per_address = 1\n")
    limits = WorkerLimits(before, counters, SystemClock(), lambda _: None)
    try:
        await limits.start()
        gate = limits.gate("mta")
        held = gate.admit("192.0.2.1", 0, 10)
        assert isinstance(gate.admit("192.0.2.1", 1, 10), Refusal)
        limits.apply(config_of("[limits]\nconnections_per_address = 2\n"))
        again = limits.gate("mta")
        assert isinstance(again.admit("192.0.2.1", 1, 10), tuple)
        assert isinstance(again.admit("192.0.2.1", 2, 10), Refusal)
        assert isinstance(held, tuple)
        gate.leave(held)
        assert isinstance(again.admit("192.0.2.1", 1, 10), tuple)
        limits.apply(config_of('[relay]\ntrusted_networks = ["192.0.2.0/24"]\n'))
        assert limits.gate("mta").admit("192.0.2.1", 2, 10) == ()
    finally:
        await limits.stop()
        counters.close()


async def test_what_cannot_be_measured_sheds_no_load(config_of, tmp_path):
    counters = Counters(1)
    config = config_of('[limits.shedding]\ndisk_free = "999TB"\nmemory = 0\nmemory_stressed = 0\n')
    limits = WorkerLimits(config, counters, SystemClock(), lambda _: None)
    try:
        (tmp_path / "var").rename(tmp_path / "away")
        assert not await limits.measure(0.0, None)
        (tmp_path / "away").rename(tmp_path / "var")
        assert await limits.measure(0.0, None)
        assert limits.shedding.load == 2
    finally:
        await limits.stop()
        counters.close()
