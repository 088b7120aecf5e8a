from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("protocol", "server_version")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    server_version: str
    def __init__(self, protocol: _Optional[int] = ..., server_version: _Optional[str] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("protocol", "name", "version", "author", "description", "license", "dependencies", "min_server_version", "max_server_version", "network", "files", "hooks", "prefetch", "independent", "settings_schema", "hands_over", "only_in_worker")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    MIN_SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    HOOKS_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    INDEPENDENT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    HANDS_OVER_FIELD_NUMBER: _ClassVar[int]
    ONLY_IN_WORKER_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    name: str
    version: str
    author: str
    description: str
    license: str
    dependencies: _containers.RepeatedScalarFieldContainer[str]
    min_server_version: str
    max_server_version: str
    network: _containers.RepeatedScalarFieldContainer[str]
    files: _containers.RepeatedScalarFieldContainer[str]
    hooks: _containers.RepeatedScalarFieldContainer[str]
    prefetch: int
    independent: bool
    settings_schema: str
    hands_over: bool
    only_in_worker: bool
    def __init__(self, protocol: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., author: _Optional[str] = ..., description: _Optional[str] = ..., license: _Optional[str] = ..., dependencies: _Optional[_Iterable[str]] = ..., min_server_version: _Optional[str] = ..., max_server_version: _Optional[str] = ..., network: _Optional[_Iterable[str]] = ..., files: _Optional[_Iterable[str]] = ..., hooks: _Optional[_Iterable[str]] = ..., prefetch: _Optional[int] = ..., independent: _Optional[bool] = ..., settings_schema: _Optional[str] = ..., hands_over: _Optional[bool] = ..., only_in_worker: _Optional[bool] = ...) -> None: ...

class FromServer(_message.Message):
    __slots__ = ("hello", "call", "cancel", "chunk", "order", "kept", "found")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    call: Call
    cancel: Cancel
    chunk: Chunk
    order: Order
    kept: Kept
    found: Found
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., call: _Optional[_Union[Call, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., order: _Optional[_Union[Order, _Mapping]] = ..., kept: _Optional[_Union[Kept, _Mapping]] = ..., found: _Optional[_Union[Found, _Mapping]] = ...) -> None: ...

class FromPlugin(_message.Message):
    __slots__ = ("ready", "answer", "read", "done", "log", "figure", "keep", "question")
    READY_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    FIGURE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ready: Ready
    answer: Answer
    read: Read
    done: Done
    log: Log
    figure: Figure
    keep: Keep
    question: Question
    def __init__(self, ready: _Optional[_Union[Ready, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., read: _Optional[_Union[Read, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., log: _Optional[_Union[Log, _Mapping]] = ..., figure: _Optional[_Union[Figure, _Mapping]] = ..., keep: _Optional[_Union[Keep, _Mapping]] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "server_version", "hostname", "worker", "plugin", "config", "debug")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    PLUGIN_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    server_version: str
    hostname: str
    worker: int
    plugin: str
    config: str
    debug: bool
    def __init__(self, protocol: _Optional[int] = ..., server_version: _Optional[str] = ..., hostname: _Optional[str] = ..., worker: _Optional[int] = ..., plugin: _Optional[str] = ..., config: _Optional[str] = ..., debug: _Optional[bool] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: str
    def __init__(self, error: _Optional[str] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("id", "hook", "timeout_ms", "metadata", "session", "envelope", "message", "entry", "server", "command", "helo", "credentials", "security", "message_notes")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MessageNotesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    HOOK_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    HELO_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    SECURITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_NOTES_FIELD_NUMBER: _ClassVar[int]
    id: int
    hook: str
    timeout_ms: int
    metadata: _containers.ScalarMap[str, str]
    session: Session
    envelope: Envelope
    message: Message
    entry: Entry
    server: Server
    command: Command
    helo: str
    credentials: Credentials
    security: Security
    message_notes: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[int] = ..., hook: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., envelope: _Optional[_Union[Envelope, _Mapping]] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., server: _Optional[_Union[Server, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., helo: _Optional[str] = ..., credentials: _Optional[_Union[Credentials, _Mapping]] = ..., security: _Optional[_Union[Security, _Mapping]] = ..., message_notes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("id", "client_ip", "server", "listener", "is_trusted", "helo", "protocol", "tls_version", "username", "notes", "tls_cipher")
    class NotesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_IP_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    IS_TRUSTED_FIELD_NUMBER: _ClassVar[int]
    HELO_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TLS_VERSION_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    TLS_CIPHER_FIELD_NUMBER: _ClassVar[int]
    id: str
    client_ip: str
    server: str
    listener: str
    is_trusted: bool
    helo: str
    protocol: str
    tls_version: str
    username: str
    notes: _containers.ScalarMap[str, bytes]
    tls_cipher: str
    def __init__(self, id: _Optional[str] = ..., client_ip: _Optional[str] = ..., server: _Optional[str] = ..., listener: _Optional[str] = ..., is_trusted: _Optional[bool] = ..., helo: _Optional[str] = ..., protocol: _Optional[str] = ..., tls_version: _Optional[str] = ..., username: _Optional[str] = ..., notes: _Optional[_Mapping[str, bytes]] = ..., tls_cipher: _Optional[str] = ...) -> None: ...

class Mailbox(_message.Message):
    __slots__ = ("local", "domain")
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    local: str
    domain: str
    def __init__(self, local: _Optional[str] = ..., domain: _Optional[str] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("sender", "recipients", "recipient", "is_relaying")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    IS_RELAYING_FIELD_NUMBER: _ClassVar[int]
    sender: Mailbox
    recipients: _containers.RepeatedCompositeFieldContainer[Mailbox]
    recipient: Mailbox
    is_relaying: bool
    def __init__(self, sender: _Optional[_Union[Mailbox, _Mapping]] = ..., recipients: _Optional[_Iterable[_Union[Mailbox, _Mapping]]] = ..., recipient: _Optional[_Union[Mailbox, _Mapping]] = ..., is_relaying: _Optional[bool] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("queue_id", "size", "headers", "has_body", "start", "is_whole")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    HAS_BODY_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    IS_WHOLE_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    size: int
    headers: bytes
    has_body: bool
    start: bytes
    is_whole: bool
    def __init__(self, queue_id: _Optional[str] = ..., size: _Optional[int] = ..., headers: _Optional[bytes] = ..., has_body: _Optional[bool] = ..., start: _Optional[bytes] = ..., is_whole: _Optional[bool] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("queue_id", "sender", "recipients", "size", "state", "session_id", "destination", "attempts", "reply", "remote", "next_at", "released")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    REMOTE_FIELD_NUMBER: _ClassVar[int]
    NEXT_AT_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    sender: Mailbox
    recipients: _containers.RepeatedCompositeFieldContainer[Mailbox]
    size: int
    state: str
    session_id: str
    destination: str
    attempts: int
    reply: Reply
    remote: str
    next_at: float
    released: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, queue_id: _Optional[str] = ..., sender: _Optional[_Union[Mailbox, _Mapping]] = ..., recipients: _Optional[_Iterable[_Union[Mailbox, _Mapping]]] = ..., size: _Optional[int] = ..., state: _Optional[str] = ..., session_id: _Optional[str] = ..., destination: _Optional[str] = ..., attempts: _Optional[int] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., remote: _Optional[str] = ..., next_at: _Optional[float] = ..., released: _Optional[_Iterable[str]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("code", "enhanced", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    ENHANCED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: int
    enhanced: str
    text: str
    def __init__(self, code: _Optional[int] = ..., enhanced: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Server(_message.Message):
    __slots__ = ("hostname", "version", "worker", "changed")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    version: str
    worker: int
    changed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hostname: _Optional[str] = ..., version: _Optional[str] = ..., worker: _Optional[int] = ..., changed: _Optional[_Iterable[str]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("line", "verb", "argument")
    LINE_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    line: bytes
    verb: str
    argument: str
    def __init__(self, line: _Optional[bytes] = ..., verb: _Optional[str] = ..., argument: _Optional[str] = ...) -> None: ...

class Credentials(_message.Message):
    __slots__ = ("mechanism", "username", "password", "authenticated")
    MECHANISM_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATED_FIELD_NUMBER: _ClassVar[int]
    mechanism: str
    username: str
    password: str
    authenticated: bool
    def __init__(self, mechanism: _Optional[str] = ..., username: _Optional[str] = ..., password: _Optional[str] = ..., authenticated: _Optional[bool] = ...) -> None: ...

class Security(_message.Message):
    __slots__ = ("kind", "detail", "session_id", "client_ip")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_IP_FIELD_NUMBER: _ClassVar[int]
    kind: str
    detail: str
    session_id: str
    client_ip: str
    def __init__(self, kind: _Optional[str] = ..., detail: _Optional[str] = ..., session_id: _Optional[str] = ..., client_ip: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class Read(_message.Message):
    __slots__ = ("id", "reading", "pieces")
    ID_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    id: int
    reading: int
    pieces: int
    def __init__(self, id: _Optional[int] = ..., reading: _Optional[int] = ..., pieces: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("id", "reading", "data", "last", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    reading: int
    data: bytes
    last: bool
    error: str
    def __init__(self, id: _Optional[int] = ..., reading: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ..., error: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "action", "code", "enhanced", "text", "note", "edits", "metadata", "delay", "silent", "error", "notes", "dropped_notes", "message_notes", "dropped_message_notes", "policy")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CONTINUE: _ClassVar[Answer.Action]
        ACCEPT: _ClassVar[Answer.Action]
        REJECT: _ClassVar[Answer.Action]
        DEFER: _ClassVar[Answer.Action]
        DISCARD: _ClassVar[Answer.Action]
        QUARANTINE: _ClassVar[Answer.Action]
    CONTINUE: Answer.Action
    ACCEPT: Answer.Action
    REJECT: Answer.Action
    DEFER: Answer.Action
    DISCARD: Answer.Action
    QUARANTINE: Answer.Action
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class NotesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    class MessageNotesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ENHANCED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_NOTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_NOTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_MESSAGE_NOTES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    id: int
    action: Answer.Action
    code: int
    enhanced: str
    text: str
    note: str
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    metadata: _containers.ScalarMap[str, str]
    delay: float
    silent: bool
    error: str
    notes: _containers.ScalarMap[str, bytes]
    dropped_notes: _containers.RepeatedScalarFieldContainer[str]
    message_notes: _containers.ScalarMap[str, str]
    dropped_message_notes: _containers.RepeatedScalarFieldContainer[str]
    policy: str
    def __init__(self, id: _Optional[int] = ..., action: _Optional[_Union[Answer.Action, str]] = ..., code: _Optional[int] = ..., enhanced: _Optional[str] = ..., text: _Optional[str] = ..., note: _Optional[str] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., delay: _Optional[float] = ..., silent: _Optional[bool] = ..., error: _Optional[str] = ..., notes: _Optional[_Mapping[str, bytes]] = ..., dropped_notes: _Optional[_Iterable[str]] = ..., message_notes: _Optional[_Mapping[str, str]] = ..., dropped_message_notes: _Optional[_Iterable[str]] = ..., policy: _Optional[str] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("add_header", "insert_header", "replace_header", "remove_header", "replace_body", "add_recipient", "remove_recipient", "change_sender", "settle_recipient", "rename_header")
    class Field(_message.Message):
        __slots__ = ("name", "value", "index")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        INDEX_FIELD_NUMBER: _ClassVar[int]
        name: str
        value: str
        index: int
        def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...
    class Settle(_message.Message):
        __slots__ = ("address", "fate", "to", "text", "note")
        class Fate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            NONE: _ClassVar[Edit.Settle.Fate]
            QUARANTINE: _ClassVar[Edit.Settle.Fate]
            REDIRECT: _ClassVar[Edit.Settle.Fate]
            REJECT: _ClassVar[Edit.Settle.Fate]
            DISCARD: _ClassVar[Edit.Settle.Fate]
        NONE: Edit.Settle.Fate
        QUARANTINE: Edit.Settle.Fate
        REDIRECT: Edit.Settle.Fate
        REJECT: Edit.Settle.Fate
        DISCARD: Edit.Settle.Fate
        ADDRESS_FIELD_NUMBER: _ClassVar[int]
        FATE_FIELD_NUMBER: _ClassVar[int]
        TO_FIELD_NUMBER: _ClassVar[int]
        TEXT_FIELD_NUMBER: _ClassVar[int]
        NOTE_FIELD_NUMBER: _ClassVar[int]
        address: str
        fate: Edit.Settle.Fate
        to: str
        text: str
        note: str
        def __init__(self, address: _Optional[str] = ..., fate: _Optional[_Union[Edit.Settle.Fate, str]] = ..., to: _Optional[str] = ..., text: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...
    ADD_HEADER_FIELD_NUMBER: _ClassVar[int]
    INSERT_HEADER_FIELD_NUMBER: _ClassVar[int]
    REPLACE_HEADER_FIELD_NUMBER: _ClassVar[int]
    REMOVE_HEADER_FIELD_NUMBER: _ClassVar[int]
    REPLACE_BODY_FIELD_NUMBER: _ClassVar[int]
    ADD_RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    REMOVE_RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_SENDER_FIELD_NUMBER: _ClassVar[int]
    SETTLE_RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    RENAME_HEADER_FIELD_NUMBER: _ClassVar[int]
    add_header: Edit.Field
    insert_header: Edit.Field
    replace_header: Edit.Field
    remove_header: Edit.Field
    replace_body: bytes
    add_recipient: str
    remove_recipient: str
    change_sender: str
    settle_recipient: Edit.Settle
    rename_header: Edit.Field
    def __init__(self, add_header: _Optional[_Union[Edit.Field, _Mapping]] = ..., insert_header: _Optional[_Union[Edit.Field, _Mapping]] = ..., replace_header: _Optional[_Union[Edit.Field, _Mapping]] = ..., remove_header: _Optional[_Union[Edit.Field, _Mapping]] = ..., replace_body: _Optional[bytes] = ..., add_recipient: _Optional[str] = ..., remove_recipient: _Optional[str] = ..., change_sender: _Optional[str] = ..., settle_recipient: _Optional[_Union[Edit.Settle, _Mapping]] = ..., rename_header: _Optional[_Union[Edit.Field, _Mapping]] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("id", "kind", "state")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SELF_CHECK: _ClassVar[Order.Kind]
        ENABLE: _ClassVar[Order.Kind]
        DISABLE: _ClassVar[Order.Kind]
        CLOSE: _ClassVar[Order.Kind]
        HAND_OVER: _ClassVar[Order.Kind]
        TAKE_OVER: _ClassVar[Order.Kind]
        MEMORY: _ClassVar[Order.Kind]
    SELF_CHECK: Order.Kind
    ENABLE: Order.Kind
    DISABLE: Order.Kind
    CLOSE: Order.Kind
    HAND_OVER: Order.Kind
    TAKE_OVER: Order.Kind
    MEMORY: Order.Kind
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: Order.Kind
    state: bytes
    def __init__(self, id: _Optional[int] = ..., kind: _Optional[_Union[Order.Kind, str]] = ..., state: _Optional[bytes] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("id", "error", "state", "report")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    id: int
    error: str
    state: bytes
    report: str
    def __init__(self, id: _Optional[int] = ..., error: _Optional[str] = ..., state: _Optional[bytes] = ..., report: _Optional[str] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("level", "text")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    level: str
    text: str
    def __init__(self, level: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Figure(_message.Message):
    __slots__ = ("name", "value", "labels", "is_observation")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IS_OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    labels: _containers.ScalarMap[str, str]
    is_observation: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., labels: _Optional[_Mapping[str, str]] = ..., is_observation: _Optional[bool] = ...) -> None: ...

class Keep(_message.Message):
    __slots__ = ("id", "what", "key", "value", "amount", "ttl")
    class What(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        GET: _ClassVar[Keep.What]
        SET: _ClassVar[Keep.What]
        DELETE: _ClassVar[Keep.What]
        INCREMENT: _ClassVar[Keep.What]
    GET: Keep.What
    SET: Keep.What
    DELETE: Keep.What
    INCREMENT: Keep.What
    ID_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    id: int
    what: Keep.What
    key: str
    value: bytes
    amount: int
    ttl: float
    def __init__(self, id: _Optional[int] = ..., what: _Optional[_Union[Keep.What, str]] = ..., key: _Optional[str] = ..., value: _Optional[bytes] = ..., amount: _Optional[int] = ..., ttl: _Optional[float] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("id", "value", "number", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    value: bytes
    number: int
    error: str
    def __init__(self, id: _Optional[int] = ..., value: _Optional[bytes] = ..., number: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("id", "name", "rdtype")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RDTYPE_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    rdtype: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., rdtype: _Optional[str] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("id", "records", "ttl", "exists", "is_secure", "error")
    class Record(_message.Message):
        __slots__ = ("data", "preference")
        DATA_FIELD_NUMBER: _ClassVar[int]
        PREFERENCE_FIELD_NUMBER: _ClassVar[int]
        data: bytes
        preference: int
        def __init__(self, data: _Optional[bytes] = ..., preference: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    IS_SECURE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    records: _containers.RepeatedCompositeFieldContainer[Found.Record]
    ttl: float
    exists: bool
    is_secure: bool
    error: str
    def __init__(self, id: _Optional[int] = ..., records: _Optional[_Iterable[_Union[Found.Record, _Mapping]]] = ..., ttl: _Optional[float] = ..., exists: _Optional[bool] = ..., is_secure: _Optional[bool] = ..., error: _Optional[str] = ...) -> None: ...
