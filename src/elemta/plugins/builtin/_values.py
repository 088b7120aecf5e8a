"""Kinds of values that settings of several plugins have."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from elemta.mail.duration import parse_duration
from elemta.plugins import parse_domain

Seconds = Annotated[float, BeforeValidator(parse_duration)]
"""A time, in seconds or as `5m`."""

Domain = Annotated[str, AfterValidator(parse_domain)]
"""A domain in the form in which domains are compared."""

Networks = tuple[IPv4Network | IPv6Network, ...]
"""Networks of clients."""
