"""Why mail was taken or refused: one record for each decision, to be found by its id later.

Records are written as arrays: a new field goes to the end and has a default, so that what is
stored already can still be read.
"""

import msgspec


class Who(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The client of a decision.

    Attributes:
        session_id: "" where it was refused before a session began.
        address: Its IP address, "unix" for a unix socket.
        listener: The kind of listener.
        helo: What it called itself.
        protocol: "ESMTPS" and the like, "" before the greeting.
        tls: The version of TLS, "" in clear.
        login: Whose credentials were right.
    """

    session_id: str = ""
    address: str = ""
    listener: str = ""
    helo: str = ""
    protocol: str = ""
    tls: str = ""
    login: str = ""


class Mail(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a decision was about, as far as it was known.

    Attributes:
        sender: Of the envelope.
        recipients: The one that was decided on, or all those of the message.
        queue_id: Where it got as far as that.
        message_id: Of the header section.
        size: Octets.
    """

    sender: str = ""
    recipients: tuple[str, ...] = ()
    queue_id: str = ""
    message_id: str = ""
    size: int = 0


class Heard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One answer of a plugin that had an effect.

    Attributes:
        plugin, hook: Who was asked, and when.
        action: What it wanted; "edit" for changes, "shadow_reject" and the like for no effect.
        note: Its own words for the operator.
        ms: How long it took, milliseconds.
    """

    plugin: str
    hook: str
    action: str
    note: str = ""
    ms: float = 0.0


class Ruling(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was decided, and by whom.

    Attributes:
        outcome: "accept", "reject", "defer", "discard", "quarantine" or "hold".
        stage: When: "connect", "mail", "rcpt", "message" and so on.
        reply: What the client was told; "" for nothing.
        plugin: Which has decided; "" where the server did by itself.
        rule: Which rule of the server.
        note: More for the operator: the words of the plugin, or the detail of an error.
    """

    outcome: str
    stage: str = ""
    reply: str = ""
    plugin: str = ""
    rule: str = ""
    note: str = ""


class Why(msgspec.Struct, array_like=True, gc=False):
    """A decision.

    Attributes:
        id: What the client was told, or the queue id.
        at: When, seconds since 1970.
        heard: Answers of plugins before it, the last ones.
        authentication: What is known of where the message comes from, in short.
        notes: What plugins have left with the message: scores, tags.
        ms: How long the message took from DATA on.
        count: How often this was decided within a second, in the same words.
        sessions: Others it was decided in.
    """

    id: str
    at: float
    who: Who
    mail: Mail
    ruling: Ruling
    heard: tuple[Heard, ...] = ()
    authentication: str = ""
    notes: dict[str, str] = {}
    ms: float = 0.0
    count: int = 1
    sessions: list[str] = []
