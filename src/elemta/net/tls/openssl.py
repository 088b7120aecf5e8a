"""What OpenSSL can do and Python's `ssl` does not show: groups, ALPN, keys, certificates.

Python sets a list of groups from 3.15 on only, before that one single curve. The other ways
are worse than a call of OpenSSL itself: a configuration file named by OPENSSL_CONF holds for all
of the process and all its children, takes the place of the system's own policy, and is read by
other copies of OpenSSL too, such as that within `cryptography`, which may not know its groups.

So the library that `_ssl` itself is linked with is called, with the pointers that CPython keeps
first in its objects: that of a context right after the object's head, that of a connection
after one more pointer. So it has been in every CPython since 3.6, and other programs count on it,
too. Where it cannot be (`is_reachable`), groups are OpenSSL's own choice, ALPN refuses nobody,
and certificates of strangers cannot be asked for, nor keys for channel binding.
"""

import _ssl
import ctypes
import ssl
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, cast

SMTP_PROTOCOLS = frozenset({b"smtp", b"esmtp"})
"""Names of SMTP in ALPN, as mail servers write them; none is registered."""

_SET_GROUPS_LIST = 92  # SSL_CTRL_SET_GROUPS_LIST
_SET_SESSION_CACHE = 44  # SSL_CTRL_SET_SESS_CACHE_MODE
_NEGOTIATED_GROUP = 134  # SSL_CTRL_GET_NEGOTIATED_GROUP
_ALPN_OK, _ALPN_REFUSED = 0, 2  # SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_ALERT_FATAL
_VERIFY_PEER = 1

_HEAD = object.__basicsize__
_POINTER = ctypes.sizeof(ctypes.c_void_p)


@cache
def _library() -> ctypes.CDLL | None:
    """Give the library that `_ssl` uses; None where it cannot be told."""
    if sys.implementation.name != "cpython":
        return None
    try:
        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        for name, result, arguments in (
            ("SSL_CTX_ctrl", ctypes.c_long, _CONTROL),
            ("SSL_ctrl", ctypes.c_long, _CONTROL),
            ("SSL_CTX_set_verify", None, (ctypes.c_void_p, ctypes.c_int, _VerifyCallback)),
            ("SSL_export_keying_material", ctypes.c_int, _EXPORT),
            ("SSL_get_certificate", ctypes.c_void_p, (ctypes.c_void_p,)),
            ("i2d_X509", ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
            ("ERR_clear_error", None, ()),
            ("SSL_CTX_set_alpn_select_cb", None, (ctypes.c_void_p, _AlpnCallback, ctypes.c_void_p)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        if ssl.OPENSSL_VERSION_INFO >= (3,):
            library.SSL_group_to_name.restype = ctypes.c_char_p
            library.SSL_group_to_name.argtypes = (ctypes.c_void_p, ctypes.c_int)
    except (OSError, AttributeError):  # built in, with its names hidden
        return None
    return library


_CONTROL = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
_EXPORT = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_int,
)
_VerifyCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_AlpnCallback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_ubyte),
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_void_p,
)


def is_reachable() -> bool:
    """Whether what this module is for can be done on this platform."""
    return _library() is not None


def set_groups(context: ssl.SSLContext, groups: Iterable[str]) -> bool:
    """Set the groups of the key exchange, the best one first; False where that cannot be done.

    Raises:
        ValueError: OpenSSL does not know one of them.
    """
    names = ":".join(groups)
    if hasattr(context, "set_groups"):
        try:
            context.set_groups(names)
        except ssl.SSLError as error:
            raise ValueError(str(error)) from error
        return True
    library = _library()
    if library is None:
        return False
    if library.SSL_CTX_ctrl(_pointer_of(context), _SET_GROUPS_LIST, 0, names.encode()) != 1:
        _forget_errors()
        raise ValueError(f"{ssl.OPENSSL_VERSION} does not know all of {names}")
    return True


@cache
def knows_group(name: str) -> bool:
    """Whether this OpenSSL has a group; True where it cannot be asked."""
    try:
        set_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), [name])
    except ValueError:
        return False
    return True


def refuse_other_protocols(context: ssl.SSLContext) -> None:
    """Have a client that offers protocols by ALPN, and SMTP not among them, get an alert."""
    library = _library()
    if library is not None:
        library.SSL_CTX_set_alpn_select_cb(_pointer_of(context), _CHOOSE, None)


def take_any_certificate(context: ssl.SSLContext) -> None:
    """Ask clients for a certificate, and go on whatever they show, or nothing."""
    library = _library()
    if library is not None:
        library.SSL_CTX_set_verify(_pointer_of(context), _VERIFY_PEER, _TAKE_IT)


def keep_no_sessions(context: ssl.SSLContext) -> None:
    """Leave it to clients to keep their sessions (tickets): ours would take a place for each."""
    library = _library()
    if library is not None:
        library.SSL_CTX_ctrl(_pointer_of(context), _SET_SESSION_CACHE, 0, None)


def find_group(connection: ssl.SSLObject) -> str:
    """Give OpenSSL's name of the group that a handshake has used; "" where it cannot be told."""
    group = getattr(connection, "group", None)
    if group is not None:
        return group() or ""
    library, pointer = _library(), _pointer_to(connection)
    if library is None or pointer is None or ssl.OPENSSL_VERSION_INFO < (3,):
        return ""
    number = library.SSL_ctrl(pointer, _NEGOTIATED_GROUP, 0, None)
    name = library.SSL_group_to_name(pointer, number) if number > 0 else None
    _forget_errors()
    return name.decode("ascii", "replace") if name else ""


def export_keys(connection: ssl.SSLObject, label: bytes, size: int) -> bytes:
    """Give octets that only the two ends of a connection know (RFC 5705, RFC 8446 §7.5).

    It is b"" where that cannot be done. The context is the empty one.
    """
    library, pointer = _library(), _pointer_to(connection)
    if library is None or pointer is None:
        return b""
    out = ctypes.create_string_buffer(size)
    done = library.SSL_export_keying_material(pointer, out, size, label, len(label), b"", 0, 1)
    _forget_errors()
    return out.raw if done == 1 else b""


def own_certificate(connection: ssl.SSLObject) -> bytes:
    """Give the certificate that our side of a connection has shown, DER; b"" if it cannot."""
    library, pointer = _library(), _pointer_to(connection)
    certificate = library.SSL_get_certificate(pointer) if library and pointer else None
    if library is None or certificate is None:
        return b""
    out = ctypes.create_string_buffer(max(library.i2d_X509(certificate, None), 0))
    at = ctypes.c_void_p(ctypes.addressof(out))
    size = library.i2d_X509(certificate, ctypes.byref(at))
    _forget_errors()
    return out.raw[:size] if size > 0 else b""


def _pointer_to(connection: ssl.SSLObject) -> int | None:
    """Give the connection as OpenSSL has it."""
    inner = getattr(connection, "_sslobj", None)
    return None if inner is None else _pointer_of(inner, after=_POINTER)


def _pointer_of(owner: object, after: int = 0) -> int:
    return cast("int", ctypes.c_void_p.from_address(id(owner) + _HEAD + after).value)


def _forget_errors() -> None:
    """Empty OpenSSL's list of errors, so that the next call does not find ours there."""
    cast("Any", _library()).ERR_clear_error()


# What OpenSSL calls: these live as long as the process, since contexts keep pointers to them.


def _take_it(_is_fine: int, _store: int | None) -> int:
    return 1


def _choose(
    _connection: int | None,
    chosen: "ctypes._Pointer[ctypes.c_void_p]",
    chosen_length: "ctypes._Pointer[ctypes.c_ubyte]",
    offered: int | None,
    length: int,
    _argument: int | None,
) -> int:
    """Choose the first name of SMTP from names with their lengths before them."""
    if offered is None:
        return _ALPN_REFUSED
    names = ctypes.string_at(offered, length)
    at = 0
    while at < length:
        end = at + 1 + names[at]
        if names[at + 1 : end] in SMTP_PROTOCOLS:
            chosen[0] = ctypes.c_void_p(offered + at + 1)
            chosen_length[0] = ctypes.c_ubyte(names[at])
            return _ALPN_OK
        at = end
    return _ALPN_REFUSED


_TAKE_IT = _VerifyCallback(_take_it)
_CHOOSE = _AlpnCallback(_choose)
