"""Reports that tests are about."""

from elemta.mailauth.reports import (
    AggregateReport,
    DkimResult,
    Published,
    Reporter,
    Row,
    SpfResult,
)

BEGIN = 1_699_920_000
END = BEGIN + 86_400

REPORTER = Reporter(
    "Receiver & Sons", "reports@rx.test", "rx.test", "https://rx.test/dmarc", "Elemta 1"
)
PUBLISHED = Published("a.test", "reject", "quarantine", "none", "s", "r", "1:d", discovery="psl")


def row(ip="192.0.2.1", **changes):
    fields = {
        "source_ip": ip,
        "disposition": "pass",
        "dkim_aligned": True,
        "spf_aligned": False,
        "header_from": "a.test",
        "envelope_from": "bounce.a.test",
        "dkim": (DkimResult("a.test", "s1", "pass"),),
        "spf": SpfResult("bounce.a.test", "softfail", "~all"),
    }
    return Row(**{**fields, **changes})


def report(*rows, **changes):
    fields = {
        "reporter": REPORTER,
        "published": PUBLISHED,
        "begin": BEGIN,
        "end": END,
        "rows": rows or ((row(), 3),),
    }
    return AggregateReport(**{**fields, **changes})
