"""The configuration: one TOML file and variables over it, judged as a whole before use."""

from elemta.config.load import DEFAULTS, Loaded, load, read
from elemta.config.models import Config
from elemta.config.problems import InvalidConfigError, Problem
from elemta.config.settings import Changes, changed, keep_fixed
from elemta.config.units import format_duration, format_size, parse_duration, parse_size
from elemta.config.values import Endpoint

__all__ = [
    "DEFAULTS",
    "Changes",
    "Config",
    "Endpoint",
    "InvalidConfigError",
    "Loaded",
    "Problem",
    "changed",
    "format_duration",
    "format_size",
    "keep_fixed",
    "load",
    "parse_duration",
    "parse_size",
    "read",
]
