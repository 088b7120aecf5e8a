"""Observation: events become log lines and metrics. It listens; nobody asks it anything."""

from elemta.observe.capture import capture, capture_loop, describe_error
from elemta.observe.log import Log, fan_out
from elemta.observe.metrics import Metrics, Sample, prepare_metrics
from elemta.observe.tls import TlsAlertSettings, TlsWatch

__all__ = [
    "Log",
    "Metrics",
    "Sample",
    "TlsAlertSettings",
    "TlsWatch",
    "capture",
    "capture_loop",
    "describe_error",
    "fan_out",
    "prepare_metrics",
]
