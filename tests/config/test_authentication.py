"""Which plugins `[authentication]` enables, with which settings, and what is wrong with it."""

import pytest

from elemta.app.settings import plugins_settings
from elemta.config import read

HEAD = '[server]\nhostname = "mx.example.test"\n'
SEED = """
[authentication]                  # SPF/DKIM/DMARC config
spf_enabled = true
dkim_enabled = true
dmarc_policy = "quarantine"
"""


@pytest.fixture
def found(tmp_path):
    """The plugins of a configuration that are enabled, with what they are told; its problems."""

    def find(text):
        path = tmp_path / "elemta.toml"
        path.write_text(HEAD + text)
        loaded = read(path, {})
        problems = [(each.is_error, each.setting, each.text) for each in loaded.problems]
        if loaded.config is None:
            return [], problems
        settings = plugins_settings(loaded.config, 0, loaded.source.where)
        return [(each.name, each.config) for each in settings.plugins if each.enabled], problems

    return find


def test_nothing_is_enabled_by_default(found):
    assert found("") == ([], [])


def test_the_usual_form(found):
    expected = [
        ("spf", {}),
        ("dkim", {}),
        ("dmarc", {"policy": "quarantine"}),
        ("authentication-results", {}),
    ]
    assert found(SEED) == (expected, [])
    assert found(SEED + '[plugins]\ndirectory = "/app/plugins"\nenabled = []') == (expected, [])


def test_all_of_it(found):
    names = ("iprev", "spf", "dkim", "arc", "dmarc")
    lines = "".join(f"{name}_enabled = true\n" for name in names)
    text = f'[authentication]\n{lines}authserv_id = "Example.Test"\n'
    named = {"authserv_id": "example.test"}
    plugins, problems = found(text)
    assert problems == []
    assert [name for name, _ in plugins] == [*names, "authentication-results"]
    assert dict(plugins) == {name: {} for name in names} | {
        "arc": named,
        "authentication-results": named,
    }


@pytest.mark.parametrize(
    ("results", "others", "names"),
    [
        ("on", "", ["authentication-results"]),
        ("off", "spf_enabled = true", ["spf"]),
        ("auto", "", []),
        ("auto", "iprev_enabled = true", ["iprev", "authentication-results"]),
    ],
)
def test_results(found, results, others, names):
    plugins, _ = found(f'[authentication]\nresults = "{results}"\n{others}')
    assert [name for name, _ in plugins] == names


def test_they_come_before_all_others(found):
    text = SEED + '[plugins]\nplugins = ["mine", "dkim"]\n[[plugins.plugin]]\nname = "spf"\n'
    plugins, _ = found(text + 'config = { hostname = "x" }')
    names = ["spf", "dkim", "dmarc", "authentication-results", "mine"]
    assert [name for name, _ in plugins] == names
    assert plugins[0] == ("spf", {"hostname": "x"})


def test_a_table_of_its_own_goes_before(found):
    plugins, _ = found(SEED + '[plugins.dmarc]\npolicy = "none"')
    assert ("dmarc", {}) in plugins


def test_a_plugin_can_be_switched_off_all_the_same(found):
    plugins, _ = found(SEED + '[[plugins.plugin]]\nname = "spf"\nenabled = false')
    assert "spf" not in dict(plugins)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[authentication]\ndmarc_enabled = true",
            (
                False,
                "[authentication] dmarc_enabled",
                "DMARC without SPF and DKIM finds that nobody vouches for any message",
            ),
        ),
        (
            "[authentication]\nspf_enabled = true\ndmarc_enabled = true",
            (
                False,
                "[authentication] dkim_enabled",
                "DMARC without DKIM refuses mail that is passed on, and much else",
            ),
        ),
        (
            SEED + "[plugins]\nenabled = false",
            (False, "[authentication]", "has no effect: plugins are not enabled"),
        ),
        (
            SEED + '[plugins.dmarc]\ntrusted_sealers = ["lists.test"]',
            (
                False,
                "[authentication] arc_enabled",
                "DMARC trusts sealers, and nobody looks at seals",
            ),
        ),
    ],
)
def test_what_is_wrong(found, text, problem):
    problems = [
        (error, setting, text.partition(": ")[2] or text) for error, setting, text in found(text)[1]
    ]
    assert [(problem[0], problem[1])] == [each[:2] for each in problems]
    assert problem[2] in found(text)[1][0][2]


def test_what_others_enable_counts(found):
    text = '[authentication]\ndmarc_enabled = true\n[plugins]\nplugins = ["spf", "dkim", "arc"]'
    text += '\n[plugins.dmarc]\ntrusted_sealers = ["lists.test"]'
    assert found(text)[1] == []
