"""How much strangers may do: limits, the brake on guessed passwords, bans, load shedding."""

from elemta.server.limits.brake import Brake
from elemta.server.limits.counters import Counters
from elemta.server.limits.gate import Gate
from elemta.server.limits.guard import Guard
from elemta.server.limits.ledger import Ledger
from elemta.server.limits.quota import Quotas
from elemta.server.limits.scope import Scope
from elemta.server.limits.settings import (
    BrakeSettings,
    LimitSettings,
    ScopeSettings,
    SheddingSettings,
    Threshold,
)
from elemta.server.limits.shedding import Load, Shedding
from elemta.server.limits.tarpit import Tarpit

__all__ = [
    "Brake",
    "BrakeSettings",
    "Counters",
    "Gate",
    "Guard",
    "Ledger",
    "LimitSettings",
    "Load",
    "Quotas",
    "Scope",
    "ScopeSettings",
    "Shedding",
    "SheddingSettings",
    "Tarpit",
    "Threshold",
]
