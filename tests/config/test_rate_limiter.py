"""`[rate_limiter]`: limits in short."""

import pytest

from elemta.app.limits import limit_settings
from elemta.app.settings import plugins_settings
from elemta.config import load

SEED = """
[rate_limiter]
enabled = true
max_connections_per_ip = 5
connection_rate_per_minute = 10
"""


@pytest.fixture
def found(tmp_path):
    """Gives the configuration that a text is."""

    def read(text):
        path = tmp_path / "elemta.toml"
        path.write_text(text)
        return load(path, {})

    return read


def plugins(config):
    return plugins_settings(config, 0, lambda path: ".".join(map(str, path))).plugins


def connections(config, kind="mta"):
    limits = limit_settings(config.rate_limiter.shorten(config.limits), kind)
    return limits.connections_per_address


def test_all_of_it(found):
    config = found(SEED)
    [plugin] = plugins(config)
    assert (plugin.name, plugin.enabled, plugin.where) == ("rate-limiter", True, "rate_limiter")
    assert plugin.config == {"connection_rate_per_minute": 10}
    assert connections(config) == 5


def test_it_is_off_without_being_enabled(found):
    config = found(SEED.replace("true", "false"))
    assert plugins(config) == ()
    assert connections(config) == 100


@pytest.mark.parametrize(("there", "both"), [(3, 3), (50, 5), (0, 5)])
def test_the_smaller_number_of_sessions_holds(found, there, both):
    config = found(f"{SEED}[limits]\nconnections_per_address = {there}\n")
    assert connections(config) == both


def test_listeners_of_a_kind_can_have_their_own(found):
    text = '[[limits.overrides]]\nkind = "lmtp"\nconnections_per_address = 9\n'
    config = found(SEED + text)
    assert (connections(config), connections(config, "lmtp")) == (5, 9)


def test_its_table_goes_before(found):
    config = found(f"{SEED}[plugins.rate-limiter]\nconnection_rate_per_minute = 3\n")
    [plugin] = plugins(config)
    assert "connection_rate_per_minute" not in plugin.config


def test_no_other_plugins_need_be_enabled(found):
    [plugin] = plugins(found(f"{SEED}[plugins]\nenabled = []\n"))
    assert plugin.enabled


def test_it_is_asked_before_mail_is_authenticated(found):
    config = found(f"{SEED}[authentication]\nspf_enabled = true\n")
    assert [each.name for each in plugins(config)][:2] == ["rate-limiter", "spf"]
