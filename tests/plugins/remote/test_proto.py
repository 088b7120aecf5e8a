"""What protoc makes of the protocol is what is kept beside it."""

from pathlib import Path

import pytest
from grpc_tools import protoc

import elemta.plugins.remote.proto

FOLDER = Path(elemta.plugins.remote.proto.__file__).parent


def test_the_generated_code_is_of_this_protocol(tmp_path):
    arguments = ["protoc", f"-I{FOLDER}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main([*arguments, "elemta_plugin_v1.proto"]) == 0
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["elemta_plugin_v1_pb2.py", "elemta_plugin_v1_pb2.pyi"]
    for name in made:
        if (tmp_path / name).read_text() != (FOLDER / name).read_text():
            pytest.fail(f"{name} is not what protoc makes of elemta_plugin_v1.proto")
