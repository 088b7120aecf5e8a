"""Why handshakes fail, in a few words that can be counted."""

from enum import StrEnum


class Failure(StrEnum):
    """What went wrong, seen from here."""

    OLD_PROTOCOL = "old_protocol"  # the client knows no version that we speak
    NO_COMMON_SUITE = "no_common_suite"
    NO_COMMON_GROUP = "no_common_group"
    UNKNOWN_NAME = "unknown_name"  # SNI
    OTHER_PROTOCOL = "other_protocol"  # ALPN
    NOT_TLS = "not_tls"
    CLIENT_CERTIFICATE = "client_certificate"  # missing, or not vouched for
    OUR_CERTIFICATE = "our_certificate"  # the client does not take it
    ALERT = "alert"  # the client ended it for another reason
    CLOSED = "closed"
    TIMEOUT = "timeout"
    OTHER = "other"


CERTIFICATE_FAILURES = frozenset({Failure.CLIENT_CERTIFICATE, Failure.OUR_CERTIFICATE})

# parts of OpenSSL's reasons, the first that is found counts
_SIGNS = (
    ("UNSUPPORTED_PROTOCOL", Failure.OLD_PROTOCOL),
    ("VERSION_TOO_LOW", Failure.OLD_PROTOCOL),
    ("ALERT_PROTOCOL_VERSION", Failure.OLD_PROTOCOL),
    ("NO_PROTOCOLS_AVAILABLE", Failure.OLD_PROTOCOL),
    ("INAPPROPRIATE_FALLBACK", Failure.OLD_PROTOCOL),
    ("NO_SHARED_CIPHER", Failure.NO_COMMON_SUITE),
    ("NO_SUITABLE_SIGNATURE_ALGORITHM", Failure.NO_COMMON_SUITE),
    ("NO_SHARED_SIGNATURE_ALGORITHMS", Failure.NO_COMMON_SUITE),
    ("NO_SHARED_GROUP", Failure.NO_COMMON_GROUP),
    ("NO_SUITABLE_GROUPS", Failure.NO_COMMON_GROUP),
    ("NO_SUITABLE_KEY_SHARE", Failure.NO_COMMON_GROUP),
    ("BAD_KEY_SHARE", Failure.NO_COMMON_GROUP),
    ("CALLBACK_FAILED", Failure.UNKNOWN_NAME),
    ("NO_APPLICATION_PROTOCOL", Failure.OTHER_PROTOCOL),
    ("HTTP_REQUEST", Failure.NOT_TLS),
    ("HTTPS_PROXY_REQUEST", Failure.NOT_TLS),
    ("WRONG_VERSION_NUMBER", Failure.NOT_TLS),
    ("UNKNOWN_PROTOCOL", Failure.NOT_TLS),
    ("PACKET_LENGTH_TOO_LONG", Failure.NOT_TLS),
    ("BAD_RECORD_TYPE", Failure.NOT_TLS),
    ("INVALID_RECORD_TYPE", Failure.NOT_TLS),
    ("DID_NOT_RETURN_A_CERTIFICATE", Failure.CLIENT_CERTIFICATE),
    ("CERTIFICATE_VERIFY_FAILED", Failure.CLIENT_CERTIFICATE),
    ("ALERT_BAD_CERTIFICATE", Failure.OUR_CERTIFICATE),
    ("ALERT_UNSUPPORTED_CERTIFICATE", Failure.OUR_CERTIFICATE),
    ("ALERT_CERTIFICATE", Failure.OUR_CERTIFICATE),
    ("ALERT_UNKNOWN_CA", Failure.OUR_CERTIFICATE),
    ("ALERT_ACCESS_DENIED", Failure.OUR_CERTIFICATE),
    ("ALERT", Failure.ALERT),
)


def classify(reason: str) -> Failure:
    """Give the class of a reason: OpenSSL's, or the value of a `Failure`."""
    if reason in _VALUES:
        return Failure(reason)
    text = reason.upper().replace(" ", "_")
    return next((failure for sign, failure in _SIGNS if sign in text), Failure.OTHER)


_VALUES = frozenset(Failure)


def describe_failure(error: BaseException) -> str:
    """Give the reason of a handshake's failure: OpenSSL's words, or a `Failure`.

    What `classify` makes of it is the same for both.
    """
    if isinstance(error, TimeoutError):
        return Failure.TIMEOUT.value
    reason = getattr(error, "reason", None)
    if isinstance(reason, str) and reason:
        return reason.lower()
    if isinstance(error, ConnectionError):
        return Failure.CLOSED.value
    return str(error).lower() or Failure.OTHER.value
