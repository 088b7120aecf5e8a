"""ARC: chains of seals that servers on the way put on a message, judged and added to (RFC 8617)."""

from elemta.mailauth.arc.sealer import Sealer
from elemta.mailauth.arc.settings import ArcSettings, SealSettings
from elemta.mailauth.arc.verifier import ChainVerifier

__all__ = ["ArcSettings", "ChainVerifier", "SealSettings", "Sealer"]
