"""Lists in the DNS of clients and domains, weighted (RFC 5782)."""

from elemta.plugins.builtin.dnsbl.plugin import Dnsbl
from elemta.plugins.builtin.dnsbl.verdict import DnsblVerdict, Hit

__all__ = ["Dnsbl", "DnsblVerdict", "Hit"]
