"""`elemta check`: whose words `[[replies]]` are."""

from click.testing import CliRunner

from elemta.cli.main import cli

BASE = """
[server]
hostname = "mx.example.test"
state_dir = "var"
[[listeners]]
address = "127.0.0.1:0"
[metrics]
listen = ""
[plugins]
plugins = ["greylist"]
"""


def test_names_that_nobody_has_are_told(tmp_path):
    names = ("relay", "greylist", "limits.*", "*", "dmarc", "relai", "greylists", "limit.*")
    path = tmp_path / "elemta.toml"
    path.write_text(BASE + "".join(f'[[replies]]\nrule = "{name}"\ntext = "x"\n' for name in names))
    done = CliRunner().invoke(cli, ["check", "-c", str(path)])
    told = [line.partition("[[replies]] ")[2] or line for line in done.output.split("\n")]
    told = [line for line in told if "is called so" in line]
    assert len(told) == 3
    assert "no rule of the server is called so, and no plugin; did you mean relay?" in told[0]
    assert "did you mean greylist?" in told[1]
    assert done.exit_code == 0
