"""Who is asked before whom, and what a plugin needs."""

import pytest

from elemta.plugins.finding.problems import PluginsError
from elemta.plugins.loading.order import Placed, arrange
from elemta.plugins.plugin import Metadata


def placed(name, *needs, version="1.0", server=("", ""), **more):
    metadata = Metadata(
        name=name,
        version=version,
        dependencies=needs,
        min_server_version=server[0],
        max_server_version=server[1],
    )
    return Placed(metadata, f"{name}.py", **more)


def told(*plugins, server="1.5.0"):
    with pytest.raises(PluginsError) as caught:
        arrange(plugins, server)
    return [str(problem) for problem in caught.value.problems]


def test_priority_then_configuration_then_name():
    plugins = [
        placed("zeta"),
        placed("alpha"),
        placed("second", position=1),
        placed("first", position=0),
        placed("early", priority=-5),
        placed("late", priority=5, position=2),
    ]
    assert arrange(plugins, "") == ["early", "first", "second", "alpha", "zeta", "late"]
    assert arrange(plugins[::-1], "") == ["early", "first", "second", "alpha", "zeta", "late"]


def test_what_a_plugin_needs_comes_first_whatever_its_priority():
    plugins = [placed("a", "c>=1,<2", priority=-9), placed("b"), placed("c", priority=9)]
    assert arrange(plugins, "") == ["b", "c", "a"]


def test_what_a_plugin_comes_after_comes_first_where_it_is_there():
    late = Placed(Metadata(name="a", after=("gone", "c")), priority=-9)
    plugins = [late, placed("b"), placed("c", priority=9)]
    assert arrange(plugins, "") == ["b", "c", "a"]
    assert arrange(plugins[:2], "") == ["a", "b"]


def test_what_comes_after_one_another():
    one, other = (Placed(Metadata(name=each, after=(with_,))) for each, with_ in ("ab", "ba"))
    assert "depend on one another" in told(one, other)[0]


def test_what_is_not_there():
    assert told(placed("a", "sqf"), placed("spf")) == [
        "a.py: plugin a: needs the plugin sqf, which is not there; did you mean spf?"
    ]


def test_a_version_that_does_not_do():
    assert told(placed("a", "spf>=2,<3"), placed("spf", version="1.9")) == [
        "a.py: plugin a: needs spf<3,>=2, but the version of spf is 1.9"
    ]


def test_what_is_not_enabled_is_not_there_for_those_who_are():
    assert told(placed("a", "spf"), placed("spf", is_enabled=False)) == [
        "a.py: plugin a: needs the plugin spf, which is not enabled"
    ]
    plugins = [placed("a", "spf", is_enabled=False), placed("spf", is_enabled=False)]
    assert arrange(plugins, "") == ["spf", "a"]


def test_what_is_not_enabled_may_lack_anything():
    assert arrange([placed("a", "gone", is_enabled=False), placed("b")], "") == ["a", "b"]


def test_a_circle():
    [problem] = told(placed("a", "b"), placed("b", "c"), placed("c", "a"), placed("d"))
    assert "depend on one another: " in problem
    assert problem.count(" needs ") == 3


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (("1.6", ""), "needs Elemta 1.6 or later, this is 1.5.0"),
        (("", "1.4.9"), "works with Elemta up to 1.4.9, this is 1.5.0"),
    ],
)
def test_releases_of_the_server(server, text):
    assert told(placed("a", server=server)) == [f"a.py: plugin a: {text}"]


def test_the_release_may_be_the_first_or_the_last():
    assert arrange([placed("a", server=("1.5", "1.5.0"))], "1.5.0") == ["a"]
