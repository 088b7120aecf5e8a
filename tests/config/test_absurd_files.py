"""Files that no person wrote: they are told of as any other mistake."""

import pytest

from elemta.config import read


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "1" * 5000, "not valid TOML: "),
        (".".join("a" * 5000) + " = 1", "nested too deeply"),
    ],
)
def test_it_is_a_problem_with_the_file(tmp_path, text, problem):
    path = tmp_path / "elemta.toml"
    path.write_text(text)
    loaded = read(path, {})
    assert loaded.config is None
    assert [str(path), problem] == [
        loaded.problems[0].where,
        loaded.problems[0].text[: len(problem)],
    ]
