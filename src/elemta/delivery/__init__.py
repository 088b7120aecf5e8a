"""The way out: routes, mail exchangers, connections kept for reuse, SMTP, LMTP and maildir."""

from elemta.delivery.courier import Delivery
from elemta.delivery.mx import Target
from elemta.delivery.pool import Pool
from elemta.delivery.router import Router, matches_domain
from elemta.delivery.settings import MX_ROUTE, DeliverySettings, Route, TlsPolicy, Via

__all__ = [
    "MX_ROUTE",
    "Delivery",
    "DeliverySettings",
    "Pool",
    "Route",
    "Router",
    "Target",
    "TlsPolicy",
    "Via",
    "matches_domain",
]
