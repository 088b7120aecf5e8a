"""What may be said in other words, and by whom."""

import pytest

from elemta.config import load, read
from elemta.mail.wording import Saying

RELAY = '[[replies]]\nrule = "relay"\n'


@pytest.fixture
def told(tmp_path):
    def tell(text: str) -> list[str]:
        path = tmp_path / "elemta.toml"
        path.write_text(f'[server]\nhostname = "mx.example.test"\n{text}')
        return [str(problem) for problem in read(path, {}).problems]

    return tell


def test_all_of_it(tmp_path):
    path = tmp_path / "elemta.toml"
    rest = 'text = "a {text}\\nb"\ncode = 450\nenhanced = "4.7.1"\nother_class = true\n'
    path.write_text(RELAY + rest + '[[replies]]\nrule = "limits.*"\ntext = "x"\n')
    assert [each.saying for each in load(path, {}).replies] == [
        Saying("relay", "a {text}\nb", 450, "4.7.1", changes_class=True),
        Saying("limits.*", "x"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (RELAY, "text, code or enhanced is expected"),
        (RELAY + "other_class = true\ncode = 421", "421 ends sessions"),
        (RELAY + 'other_class = true\ntext = "x"', "other_class needs a code"),
        (RELAY + "code = 250", "at least 400"),
        (RELAY + "code = 600", "at most 599"),
        (RELAY + 'enhanced = "2.0.0"', "an enhanced code is expected"),
        (RELAY + 'text = "{nobody}"', "nothing stands for {nobody}"),
        (RELAY + 'text = "a {"', "stands alone"),
        (RELAY + 'text = "a\\u0007b"', "text without control characters"),
        (RELAY + 'text = "a\\rb"', "text without control characters"),
        (RELAY + 'text = "' + "x" * 401 + '"', "at most 5 lines of 400 characters"),
        (RELAY + 'text = "' + "x\\n" * 5 + 'x"', "at most 5 lines of 400 characters"),
        ('[[replies]]\nrule = "No Name"\ntext = "x"', "a name is expected"),
        ('[[replies]]\nrule = "a*b"\ntext = "x"', "a name is expected"),
        ('[[replies]]\ntext = "x"', "rule"),
        (RELAY + 'text = "x"\n[why]\nenabled = false', "without `why.enabled`"),
    ],
)
def test_what_is_wrong(told, text, problem):
    (line,) = told(text)
    assert problem in line
