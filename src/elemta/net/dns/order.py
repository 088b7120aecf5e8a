"""What an operator may order of the resolvers of a running server."""

import msgspec


class FlushOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="dns"):
    """Forget what the DNS said of a name, of all types; of all names where it is ""."""

    name: str = ""
