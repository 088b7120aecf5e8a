"""SMTP and LMTP as machines: bytes in, events out, and the other way; no I/O.

The events of the server's side are named in `elemta.smtp.events`.
"""

from elemta.smtp import events
from elemta.smtp.client import ClientMachine
from elemta.smtp.limits import Limits
from elemta.smtp.offer import Offer
from elemta.smtp.server import ServerMachine

__all__ = ["ClientMachine", "Limits", "Offer", "ServerMachine", "events"]
