"""Why mail was taken or refused: the records, and what they say in plain words."""

from elemta.observe.why.store import WhyStore, store_path
from elemta.observe.why.words import explain, summarise

__all__ = ["WhyStore", "explain", "store_path", "summarise"]
