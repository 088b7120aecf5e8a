"""Rules and lists of the operator: what is accepted, refused, put aside, tagged or sent elsewhere.

Rules are written in TOML and asked in order; each has an expression over what is known of the
session, the envelope, the message and its origin. All is judged when it is loaded.

Leaves behind lists that were fetched, in `rules` in the state folder.
"""

from elemta.plugins.builtin.rules.plugin import Rules

__all__ = ["Rules"]
