"""The records of a running server's decisions."""

import contextlib
from typing import Any

from servers.elemta import Elemta

from elemta.mail.why import Why
from elemta.observe.why import WhyStore, store_path


def find(server: Elemta, word: str, **fields: Any) -> list[Why]:
    """The records of a word, once there is one whose ruling has these fields."""

    def found() -> list[Why]:
        with contextlib.closing(WhyStore(store_path(server.state))) as store:
            records = list(store.find(word))
        return [
            each
            for each in records
            if all(getattr(each.ruling, name) == value for name, value in fields.items())
        ]

    return server.wait_for(found, f"a record of {word} with {fields}")
