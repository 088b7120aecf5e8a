"""examples/prometheus/alerts.yml: it asks for what there is, and the page names all of it."""

import re
from pathlib import Path

import pytest
import yaml

from elemta.config.tls import TlsAlertsConfig
from elemta.net.tls.failures import CERTIFICATE_FAILURES, Failure
from elemta.net.tls.levels import RULES, is_weak
from elemta.observe.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
GROUPS = yaml.safe_load((ROOT / "examples/prometheus/alerts.yml").read_text("utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
METRICS = {
    f"{metric.name}_total" if metric.kind == "counter" else metric.name: metric
    for metric in CATALOGUE
}
SERIES = re.compile(r"\b(elemta_\w+)(?:\{([^}]*)\})?")


@pytest.mark.parametrize("name", ALERTS)
def test_all_it_asks_for_exists(name):
    rule = ALERTS[name]
    asked = SERIES.findall(rule["expr"])
    assert asked
    for metric, labels in asked:
        assert set(re.findall(r"(\w+)=", labels)) <= set(METRICS[metric].labels)
    told = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    assert set(told) <= {"instance", *METRICS[asked[0][0]].labels}


def test_the_page_names_each_alert_and_no_other():
    page = (ROOT / "docs/operating.md").read_text("utf-8")
    assert set(re.findall(r"`(Elemta\w+)`", page)) == set(ALERTS)


def test_the_numbers_of_tls_are_those_of_the_server():
    alerts = TlsAlertsConfig()
    numbers = {
        "ElemtaHandshakesFail": alerts.failures,
        "ElemtaCertificatesFail": alerts.certificate_errors,
        "ElemtaWeakSuites": alerts.weak_ciphers,
        "ElemtaOldTls": alerts.old_versions,
        "ElemtaCertificateEnds": alerts.days_left,
    }
    assert {name: float(ALERTS[name]["expr"].split()[-1]) for name in numbers} == numbers


def test_reasons_and_suites_are_those_of_the_server():
    told = ALERTS["ElemtaCertificatesFail"]["expr"]
    reasons = re.search(r'reason=~"([^"]*)"', told)[1].split("|")
    assert set(reasons) == {failure.value for failure in CERTIFICATE_FAILURES}
    assert f'reason="{Failure.OLD_PROTOCOL.value}"' in ALERTS["ElemtaOldTls"]["expr"]
    weak = re.search(r'cipher=~"([^"]*)"', ALERTS["ElemtaWeakSuites"]["expr"])[1]
    for suite in {suite for rules in RULES.values() for suite in rules.suites}:
        assert bool(re.fullmatch(weak, suite)) is is_weak(suite)
