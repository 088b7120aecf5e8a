"""Builds the C examples and the C plugins of the tests."""

import subprocess
from pathlib import Path

from servers.process import program

from elemta.plugins.remote.native import header_path

EXAMPLES = Path(__file__).parents[3] / "examples" / "plugins" / "c"


def build(source: Path, folder: Path, *flags: str) -> Path:
    """Make a library of a source file, in a folder; its path."""
    library = folder / f"lib{source.stem}.so"
    command = [program("gcc", "gcc"), "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    command += ["-O1", "-shared", "-fPIC", f"-I{header_path().parent}", *flags]
    done = subprocess.run(
        [*command, "-o", library, source], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    library.chmod(0o755)
    return library
