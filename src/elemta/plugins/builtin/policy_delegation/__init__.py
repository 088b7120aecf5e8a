"""Servers that speak the policy delegation protocol of Postfix say what may come in.

They are asked at the moments that an operator chooses, by default about each recipient. They cannot
let anybody relay: OK means no more than that they have nothing against it.

Leaves behind: `policy-delegation.failed` in the notes of a message for which one was not to be had.
"""

from elemta.plugins.builtin.policy_delegation.plugin import PolicyDelegation

__all__ = ["PolicyDelegation"]
