"""Errors of Elemta: one root, and a leaf for each thing an operator or a peer can do about it.

Expected outcomes (a refused recipient, a deferred delivery) are values, not errors:
see `Reply` and `Outcome`.
"""


class ElemtaError(Exception):
    """The root of all errors that Elemta raises on purpose."""


class ConfigError(ElemtaError):
    """A setting cannot be used.

    Attributes:
        where: File and line, environment variable or setting name.
        problem: What is wrong, and the way out.
    """

    def __init__(self, where: str, problem: str):
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class AddressError(ElemtaError, ValueError):
    """A mailbox or path is not of RFC 5321 form; the text says what is wrong."""


class HeaderError(ElemtaError, ValueError):
    """A header field cannot be built: it would break the message that carries it."""


class ProtocolError(ElemtaError):
    """The rules of SMTP or LMTP are broken."""


class LocalProtocolError(ProtocolError):
    """We asked a protocol machine for something that is not legal now: a defect of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that no conforming peer sends."""


class SpoolError(ElemtaError):
    """The queue could not keep or find mail, for now (disk full, I/O error, shard closed)."""


class CorruptError(SpoolError):
    """A stored message cannot be read back as it was written."""


class LookupFailed(ElemtaError):  # noqa: N818 - it is an outcome that callers name, not only an error
    """A name could not be looked up for now; to ask again later may help."""


class PluginError(ElemtaError):
    """A plugin cannot be loaded or does not work; the text says which, where and why."""
