"""The server room: listeners, sessions, transactions, and who may relay."""

from elemta.server.client import Client
from elemta.server.intake import Draft, Intake
from elemta.server.listener import Bound, Listeners
from elemta.server.relay import RelayPolicy
from elemta.server.session import Session
from elemta.server.settings import Door, RelaySettings, SessionSettings
from elemta.server.surroundings import Surroundings
from elemta.server.transaction import Transaction

__all__ = [
    "Bound",
    "Client",
    "Door",
    "Draft",
    "Intake",
    "Listeners",
    "RelayPolicy",
    "RelaySettings",
    "Session",
    "SessionSettings",
    "Surroundings",
    "Transaction",
]
