"""Writes `docs/metrics.md` and `docs/log.md` from the catalogue and from the types of events."""

from collections.abc import Iterator, Mapping

import msgspec

from elemta.mail.events import Event, PluginLogged
from elemta.observe.catalogue import CATALOGUE, MAX_VALUES, Metric
from elemta.observe.log import BACKLOG, LEVELS, MAX_ITEMS, MAX_VALUE

METRICS_HEAD = """\
# Metrics

<!-- Written by `make docs` from src/elemta/observe/catalogue.py: change the texts there. -->

`GET /metrics` at the address of `[metrics] listen` gives these, in the text format of Prometheus,
or as OpenMetrics where `Accept` asks for `application/openmetrics-text`. They are those of all
processes of the server together. Counters begin at zero when the server starts and go on when a
worker is restarted; gauges are as of the last second.

Samples of a counter end in `_total`; a histogram has `_bucket`, `_sum` and `_count`; an info ends
in `_info`. Times are in seconds, sizes in octets. A label has at most {max_values} values; what
comes after those is counted as `other`.

What a plugin counts itself is shown as `elemta_plugin_NAME_FIGURE_total`, what it observes as the
histogram `elemta_plugin_NAME_FIGURE`, with `_` for each `-` of the plugin's name. The label
`plugin` has that name; the other labels are the plugin's own.

"""

LOG_HEAD = """\
# The log

<!-- Written by `make docs` from src/elemta/mail/events: change the texts there. -->

Elemta writes one JSON object a line to its standard output: `event_type` first, then `time` (UTC,
with milliseconds), then the fields of the event. A field at its default is left out. With
`[logging] format = "console"` the same is written for people. `[logging] level` says from which
level on events are written: {levels}.

Names of events and fields are kept from release to release; new ones may be added. The release
that writes them is `version` of `server_started`. An event carries no password and nothing of a
message but its envelope, size and Message-ID. Control characters are escaped; in long lines
values over {max_value} characters and lists over {max_items} items are cut and end with `…`.

Rotation and retention belong to what reads the standard output, such as journald. A reader that
stops is not waited for: {backlog} MiB are kept, what comes after is counted and told by
`log_lines_dropped`.

`session_id` names a connection and `queue_id` a message; both stay the same in all events. With
`recipient` they tell the way of one message to one recipient:
`message_enqueued` → `message_received` → `message_deferred`* → `message_delivered` or
`message_bounced`.

"""

FIELDS: Mapping[str, str] = {
    "action": "what the plugin wants",
    "after": "state after the change",
    "applied": "settings that changed and are in use",
    "ban_for_s": "how long the ban holds, in seconds",
    "ban_id": "what `elemta bans` names the ban by; the client is told",
    "banned": "address, network, login, or address and login",
    "before": "state before the change",
    "change": "what happened to the plugin",
    "check": "setting of `[pregreet]` that the check is named after",
    "cipher": "OpenSSL's name of the cipher suite",
    "client_ip": 'address of the client, or "unix"',
    "count": "how many lines",
    "delay_s": "seconds until the restart",
    "delivery_address": "address and port that the message was offered to",
    "delivery_host": "name of the host that answered",
    "delivery_method": '"smtp", "lmtp", "maildir" or "discard"',
    "delivery_time_ms": "time that the attempt took, in milliseconds",
    "detail": "what happened, in words",
    "changes": "what was changed, in words",
    "error": "what went wrong",
    "file": "path of the file",
    "forwarded_for": "address of the client that a proxy passes mail on for",
    "from_envelope": 'sender, "" for notifications',
    "group": "the group of the key exchange, where it is known",
    "helo": "what a client has called itself",
    "hidden_as": "what trace headers say instead of where a message comes from",
    "hook": "the moment at which the plugin was asked",
    "ident": "queue id of the message on the host that passes it on",
    "is_resumed": "the keys of an earlier session were used again",
    "kind": "what kind of event, one word",
    "level": "how important the plugin holds it",
    "limit": "name of the setting",
    "listener": 'what the listener is for: "mta", "submission", "submissions" or "lmtp"',
    "listeners": "addresses listened on",
    "mail_from": 'sender, "" for notifications',
    "mechanism": "the mechanism of AUTH",
    "message_id_header": "the Message-ID field",
    "message_size": "octets",
    "messages": "messages received in the session",
    "name": "name of that client",
    "needs_restart": "settings that changed and wait for a restart",
    "next_attempt_at": "when it is tried again, seconds since 1970 (UTC)",
    "notification": "queue id of the notification to the sender, or why there is none",
    "outcome": "what has become of it",
    "pid": "process id",
    "plugin": "name of the plugin",
    "port": "port of that client",
    "priority": "priority of the message",
    "process": 'what kind of process: "worker" or "web"',
    "processing_time_ms": "time from DATA or BDAT to the acknowledgement, in milliseconds",
    "proto": "what that client spoke",
    "queue": "state that the message begins in",
    "queue_id": "the message",
    "rcpt_to": "recipient",
    "reason": "why, in words",
    "recipient": "recipient",
    "recipient_count": "how many recipients",
    "reply": "reply of the server that was asked, or ours",
    "retry_count": "attempts before this one",
    "server_ip": "our address",
    "result": '"passed"; of a check that was not: "ignore", "enforce" or "drop"',
    "session_id": "the connection",
    "shard": "number of the part of the queue",
    "source": "whether the mail comes from outside (REMOTE) or not (LOCAL)",
    "stage": "the command at which it happened, lower case",
    "status": "how the process ended",
    "subject": "what the notice is about",
    "text": "what the plugin says",
    "times": "how many times",
    "tls": "TLS version of the connection to the next hop",
    "tls_group": "group of its key exchange",
    "tls_active": "the connection is encrypted",
    "to_envelope": "recipients",
    "username": "the account",
    "version": "release of Elemta, or of the plugin; or version of TLS",
    "where": "the place in the program",
    "why_id": "what the peer was told, to find this line by",
    "worker": "number of the worker",
    "workers": "how many workers",
}


def write_metrics_page() -> str:
    """Give the text of `docs/metrics.md`."""
    rows = [
        "| metric | type | unit | labels | meaning |",
        "|---|---|---|---|---|",
        *(_metric_row(metric) for metric in CATALOGUE),
    ]
    return METRICS_HEAD.format(max_values=MAX_VALUES) + "\n".join(rows) + "\n"


def write_log_page() -> str:
    """Give the text of `docs/log.md`."""
    head = LOG_HEAD.format(
        levels=", ".join(f"`{level}`" for level in LEVELS),
        max_value=MAX_VALUE,
        max_items=MAX_ITEMS,
        backlog=BACKLOG >> 20,
    )
    events = [_event_section(kind) for kind in event_types()]
    return head + "\n".join(events)


def event_types() -> list[type[Event]]:
    """Give all types of events that are written, by name."""
    return sorted(_written(Event), key=lambda kind: str(kind.__struct_config__.tag))


def _written(kind: type[Event]) -> Iterator[type[Event]]:
    if kind.__struct_config__.tag is not None and not kind.__subclasses__():
        yield kind
    for child in kind.__subclasses__():
        yield from _written(child)


def _metric_row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    text = metric.text.replace("|", "\\|")
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {text} |"


def _event_section(kind: type[Event]) -> str:
    text = " ".join(line.strip() for line in (kind.__doc__ or "").strip().split("\n"))
    lines = [
        f"## {kind.__struct_config__.tag}",
        "",
        f"{text} Level `{kind.LEVEL}`." if kind is not PluginLogged else text,
        "",
        "| field | type | meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{field.name}` | {_type_name(field.type)} | {FIELDS[field.name]} |"
        for field in msgspec.structs.fields(kind)
    ]
    return "\n".join(lines) + "\n"


def _type_name(kind: object) -> str:
    names: Mapping[object, str] = {
        str: "text",
        int: "number",
        float: "number",
        bool: "true",
        list[str]: "list of text",
    }
    return names[kind]
