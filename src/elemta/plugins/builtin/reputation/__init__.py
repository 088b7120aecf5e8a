"""What has come of a client, its network, a domain and a login so far, as a score."""

from elemta.plugins.builtin.reputation.plugin import Reputation
from elemta.plugins.builtin.reputation.record import Part, ReputationVerdict

__all__ = ["Part", "Reputation", "ReputationVerdict"]
