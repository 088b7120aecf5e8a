"""Writes databases of networks as MaxMind DB 2.0 has them, small ones."""

from ipaddress import ip_network

_MARKER = b"\xab\xcd\xefMaxMind.com"
_EMPTY = None


def write_mmdb(path, facts):
    """Write a database: facts by network ("192.0.2.0/24", "2001:db8::/32")."""
    root = [_EMPTY, _EMPTY]
    data, places = b"", {}
    for text, about in facts.items():
        raw = encode(about)
        if raw not in places:
            places[raw] = len(data)
            data += raw
        put(root, bits(ip_network(text)), places[raw])
    nodes, numbers = [root], {id(root): 0}
    for node in nodes:
        for child in node:
            if isinstance(child, list):
                numbers[id(child)] = len(nodes)
                nodes.append(child)
    count = len(nodes)
    tree = b"".join(record(child, numbers, count) for node in nodes for child in node)
    about = {
        "node_count": count,
        "record_size": 32,
        "ip_version": 6,
        "database_type": "Test",
        "languages": [],
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 0,
        "description": {},
    }
    path.write_bytes(tree + bytes(16) + data + _MARKER + encode(about))


def bits(network):
    """The path of a network in the tree; IPv4 is below ::/96."""
    number, length = int(network.network_address), network.prefixlen
    length += 96 if network.version == 4 else 0
    return [number >> (127 - at) & 1 for at in range(length)]


def put(node, path, place):
    for bit in path[:-1]:
        if node[bit] is _EMPTY:
            node[bit] = [_EMPTY, _EMPTY]
        node = node[bit]
    node[path[-1]] = place


def record(child, numbers, count):
    if isinstance(child, list):
        value = numbers[id(child)]
    else:
        value = count if child is _EMPTY else count + 16 + child
    return value.to_bytes(4, "big")


def encode(value):
    if isinstance(value, dict):
        head = bytes([7 << 5 | len(value)])
        return head + b"".join(encode(name) + encode(each) for name, each in value.items())
    if isinstance(value, list):
        return bytes([len(value), 11 - 7]) + b"".join(map(encode, value))
    if isinstance(value, int):
        return bytes([6 << 5 | 4]) + value.to_bytes(4, "big")
    raw = value.encode()
    if len(raw) < 29:
        return bytes([2 << 5 | len(raw)]) + raw
    return bytes([2 << 5 | 29, len(raw) - 29]) + raw
