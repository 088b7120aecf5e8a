import pytest
from plugins.workshop import Workshop


@pytest.fixture
async def workshop(tmp_path):
    made = Workshop(tmp_path)
    yield made
    if made.roster is not None:
        await made.roster.close()
