"""The way out: routes, mail exchangers, connections kept for reuse, SMTP, LMTP and maildir."""

from elemta.delivery.settings import MX_ROUTE, DeliverySettings, Route, TlsPolicy, Via

__all__ = ["MX_ROUTE", "DeliverySettings", "Route", "TlsPolicy", "Via"]
