import pytest
from accounts.desk import Desk


@pytest.fixture
async def make_desk():
    desks = []

    def make(*arguments, **changes):
        desk = Desk(*arguments, **changes)
        desks.append(desk)
        return desk

    yield make
    for desk in desks:
        await desk.auth.close()


@pytest.fixture
def desk(make_desk):
    return make_desk()
