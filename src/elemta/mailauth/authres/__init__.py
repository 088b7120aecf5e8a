"""Authentication-Results (RFC 8601): read, written, and told from forged ones."""

from elemta.mailauth.authres.claims import forged
from elemta.mailauth.authres.parsing import (
    AuthResults,
    AuthResultsError,
    MethodResult,
    Property,
    parse,
)
from elemta.mailauth.authres.writing import format_results

__all__ = [
    "AuthResults",
    "AuthResultsError",
    "MethodResult",
    "Property",
    "forged",
    "format_results",
    "parse",
]
