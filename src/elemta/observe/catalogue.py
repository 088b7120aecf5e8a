"""The metrics there are: names, types, units and labels, each in one place.

What is counted, shown at `/metrics` and described in `docs/metrics.md` is made from `CATALOGUE`.
Names are kept stable; operators build on them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from elemta.net.dns.figures import BUCKETS as DNS_BUCKETS
from elemta.plugins.asking.tally import BUCKETS

MAX_VALUES = 100  # values of a metric's labels, "other" not counted
MAX_OLD_CLIENTS = 10_000  # they come and go, a hundred in each worker at a time
MAX_PLUGIN_VALUES = 10_000  # plugins and hooks are ours, not from outside
ATTEMPT_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)
ACCEPT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: Its name, without the ending "_total" of a counter's samples.
        unit: "seconds", "bytes" or "" for a plain number; the name ends with it.
        merge: How one number is made of those of all processes.
        outlives: The value of a process that has ended still counts.
        buckets: Upper bounds of a histogram's buckets, without the last, infinite one.
        limit: How many sets of labels there may be; what comes later is counted as "other".
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    text: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    merge: Callable[[Iterable[float]], float] = sum
    outlives: bool = True
    buckets: tuple[float, ...] = ()
    limit: int = MAX_VALUES


def _counter(name: str, text: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, "counter", text, unit, labels)


def _of_plugins(name: str, text: str, *labels: str) -> Metric:
    labels = ("plugin", "hook", *labels)
    return Metric(name, "counter", text, "", labels, limit=MAX_PLUGIN_VALUES)


def _gauge(name: str, text: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, "gauge", text, unit, labels, outlives=False)


CONNECTIONS = _counter("elemta_connections", "Connections accepted.", "listener")
REFUSED = _counter(
    "elemta_connections_refused",
    "Connections turned away before a session began.",
    "listener",
    "reason",
)
SESSIONS = _gauge("elemta_sessions", "Sessions open now.", "listener")
RECEIVED = _counter("elemta_messages_received", "Messages received and acknowledged.")
RECEIVED_BYTES = _counter(
    "elemta_received_bytes", "Octets of the messages received and acknowledged.", unit="bytes"
)
RECIPIENTS = _counter(
    "elemta_recipients_received", "Recipients of the messages received and acknowledged."
)
REJECTED = _counter(
    "elemta_messages_rejected",
    "Commands and messages refused, by the command at which it happened.",
    "stage",
)
ACCEPT_SECONDS = Metric(
    "elemta_accept_duration_seconds",
    "histogram",
    "Time from DATA or the first BDAT to the acknowledgement of a message.",
    "seconds",
    buckets=ACCEPT_BUCKETS,
)
ENQUEUED = _counter(
    "elemta_messages_enqueued",
    "Messages written to the queue, notifications of our own included.",
    "priority",
)
DELIVERIES = _counter(
    "elemta_deliveries",
    'What delivery attempts came to, for each recipient: "delivered", "deferred" or "bounced".',
    "result",
    "method",
)
ATTEMPT_SECONDS = Metric(
    "elemta_delivery_duration_seconds",
    "histogram",
    "Time that a delivery attempt took, for each recipient.",
    "seconds",
    ("result", "method"),
    buckets=ATTEMPT_BUCKETS,
)
DEFERRED = _counter(
    "elemta_deferred_recipients",
    "Attempts that were put off, by the recipient's domain.",
    "domain",
)
NOTIFICATIONS = _counter(
    "elemta_notifications",
    'Delivery status notifications queued: "failure" or "delay".',
    "kind",
)
CORRUPT = _counter("elemta_messages_corrupt", "Stored messages found unreadable.")
SECURITY = _counter(
    "elemta_security_events", "What only an attack or a badly broken peer does.", "kind"
)
LIMITED = _counter(
    "elemta_limits_reached",
    "Sessions that came to a limit and were told to wait, by the limit.",
    "listener",
    "limit",
)
CHECKED = _counter(
    "elemta_clients_checked",
    'Checks of new clients (`[pregreet]`): "passed", or what followed from a failure, "ignore",'
    ' "enforce" or "drop".',
    "check",
    "result",
)
LOCKED = _counter(
    "elemta_logins_locked", "Logins that tried to send more than they may at all, and were locked."
)
MENDED = _counter(
    "elemta_messages_mended", "Messages that lacked something or had too much, and were mended."
)
BANS = _counter(
    "elemta_bans",
    'Bans that failed logins have led to: of an "address", a "network", a "login", or a "pair" of'
    " an address and a login.",
    "kind",
)
QUARANTINED = _counter(
    "elemta_quarantined", "Times that a plugin has put a message into quarantine.", "plugin"
)
SETTLED = _counter(
    "elemta_recipients_settled",
    'Recipients that plugins have treated otherwise than the rest of a message: "quarantine", '
    '"redirect", "reject", "bounce" or "discard".',
    "outcome",
)
LEFT_QUARANTINE = _counter(
    "elemta_quarantine_left",
    'Recipients that have left quarantine: "released", "deleted", or "expired" by their age.',
    "how",
)
LOAD = Metric(
    "elemta_load_state",
    "gauge",
    "What a worker does about too much work: 0 nothing, 1 it hurries clients, 2 it sheds load.",
    "",
    ("worker",),
    merge=max,
    outlives=False,
)
TARPITTED = _gauge("elemta_sessions_delayed", "Sessions whose answer waits as a penalty.")
TLS_HANDSHAKES = _counter(
    "elemta_tls_handshakes",
    "Clients that changed to TLS, or began with it.",
    "listener",
    "version",
    "cipher",
    "group",
)
TLS_FAILURES = _counter(
    "elemta_tls_handshakes_failed",
    "Handshakes that came to nothing, and why.",
    "listener",
    "reason",
)
TLS_ALERTS = _counter(
    "elemta_tls_alerts",
    'Alerts about TLS, as the log has them; "certificate_refused" is an event of its own.',
    "kind",
)
TLS_OLD_CLIENTS = Metric(
    "elemta_tls_old_clients",
    "gauge",
    'Handshakes by clients that know no TLS 1.3: "TLSv1.2", "CBC" suites of it, or older, which'
    " is refused. Each worker shows the hundred with the most, and roughly for who is new there.",
    labels=("client", "protocol"),
    limit=MAX_OLD_CLIENTS,
)
TLS_CERTIFICATE_DAYS = Metric(
    "elemta_tls_certificate_days",
    "gauge",
    "Days that a certificate of ours is still good; negative once it has expired.",
    labels=("file",),
    merge=min,
    outlives=False,
)
INTERNAL_ERRORS = _counter("elemta_internal_errors", "Defects of this server met and survived.")
ENTRIES = _gauge("elemta_queue_recipients", "Recipients in the queue, by their state.", "state")
OLDEST = Metric(
    "elemta_queue_oldest_seconds",
    "gauge",
    "Age of the oldest message in the queue.",
    "seconds",
    merge=max,
    outlives=False,
)
READY = _gauge("elemta_queue_ready", "Recipients due and waiting for a connection, in memory.")
IN_FLIGHT = _gauge("elemta_deliveries_in_flight", "Delivery attempts under way.")
SPOOL_FREE = Metric(
    "elemta_spool_free_bytes",
    "gauge",
    "Room left on the file system of the spool.",
    "bytes",
    merge=min,
    outlives=False,
)
LOOP_LAG = _gauge(
    "elemta_event_loop_lag_seconds",
    "By how much a worker's event loop was late, at worst in the last second.",
    "worker",
    unit="seconds",
)
DNS_HITS = _counter("elemta_resolver_cache_hits", "Names answered from the resolver's cache.")
DNS_MISSES = _counter("elemta_resolver_cache_misses", "Names that a name server was asked for.")
DNS_STALE = _counter(
    "elemta_resolver_cache_stale", "Old answers that were given because the DNS failed."
)
DNS_EVICTIONS = _counter(
    "elemta_resolver_cache_evictions", "Answers forgotten before their time to make room."
)
DNS_ENTRIES = _gauge("elemta_resolver_cache_entries", "Answers in the caches, old ones included.")
DNS_QUESTIONS = _counter(
    "elemta_resolver_questions",
    'Questions to name servers, by what came of them: "answer", "no_data" and "no_name" are'
    ' answers, "servfail", "refused", "bogus", "timeout", "unreachable" and "unfit" are failures.',
    "rdtype",
    "result",
)
DNS_SECONDS = Metric(
    "elemta_resolver_seconds",
    "histogram",
    "Time until a question was answered or given up, aliases and repetitions included.",
    "seconds",
    buckets=DNS_BUCKETS,
)
LOG_DROPPED = _counter(
    "elemta_log_lines_dropped", "Log lines lost because nobody read them in time."
)
DOUBLE_BOUNCES = _counter(
    "elemta_double_bounces", "Notifications that could not be delivered; they are kept as failed."
)
WITHHELD = _counter(
    "elemta_notifications_withheld",
    "Failures and delays that nobody was told of, so as not to tell strangers.",
)
WHY_LOST = _counter(
    "elemta_why_records_lost", "Records of decisions that were not written down: see `[why]`."
)
RESTARTS = _counter(
    "elemta_restarts", "Workers and other processes that died and were started again.", "process"
)
PLUGIN_CALLS = _of_plugins("elemta_plugin_calls", "Calls of plugins, by the hook.")
PLUGIN_ERRORS = _of_plugins(
    "elemta_plugin_errors", "Calls of plugins that failed, for whatever reason."
)
PLUGIN_TIMEOUTS = _of_plugins("elemta_plugin_timeouts", "Calls of plugins that took too long.")
PLUGIN_DECISIONS = _of_plugins(
    "elemta_plugin_decisions",
    'What plugins have said: an action, "edit" for changes of the message alone; "shadow_reject"'
    " and the like have had no effect.",
    "decision",
)
PLUGIN_SECONDS = Metric(
    "elemta_plugin_seconds",
    "histogram",
    "Time that calls of plugins took: of all that had something to say or to wait for, of the"
    " others a sample.",
    "seconds",
    ("plugin", "hook"),
    buckets=BUCKETS,
    limit=MAX_PLUGIN_VALUES,
)
STARTED = Metric(
    "elemta_start_time_seconds",
    "gauge",
    "When the server started, in seconds since 1970 (UTC).",
    "seconds",
    merge=max,
)
BUILD = Metric("elemta_build", "info", "What is running.", "", ("version", "python"), merge=max)

CATALOGUE: tuple[Metric, ...] = (
    BUILD,
    STARTED,
    RESTARTS,
    SESSIONS,
    CONNECTIONS,
    REFUSED,
    RECEIVED,
    RECEIVED_BYTES,
    RECIPIENTS,
    REJECTED,
    ACCEPT_SECONDS,
    ENQUEUED,
    DELIVERIES,
    ATTEMPT_SECONDS,
    DEFERRED,
    NOTIFICATIONS,
    CORRUPT,
    ENTRIES,
    OLDEST,
    READY,
    IN_FLIGHT,
    SPOOL_FREE,
    SECURITY,
    LIMITED,
    CHECKED,
    BANS,
    QUARANTINED,
    SETTLED,
    LEFT_QUARANTINE,
    LOCKED,
    MENDED,
    LOAD,
    TARPITTED,
    TLS_HANDSHAKES,
    TLS_FAILURES,
    TLS_ALERTS,
    TLS_OLD_CLIENTS,
    TLS_CERTIFICATE_DAYS,
    INTERNAL_ERRORS,
    PLUGIN_CALLS,
    PLUGIN_ERRORS,
    PLUGIN_TIMEOUTS,
    PLUGIN_DECISIONS,
    PLUGIN_SECONDS,
    LOOP_LAG,
    DNS_HITS,
    DNS_MISSES,
    DNS_STALE,
    DNS_EVICTIONS,
    DNS_ENTRIES,
    DNS_QUESTIONS,
    DNS_SECONDS,
    LOG_DROPPED,
    DOUBLE_BOUNCES,
    WITHHELD,
    WHY_LOST,
)
