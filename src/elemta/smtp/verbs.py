"""The verbs of SMTP and LMTP: for each, the event that a command asks for, or its fault.

BDAT is missing: it is half a command, half content, and read by the machine itself.
"""

from collections.abc import Callable, Mapping

from elemta.smtp import commands
from elemta.smtp.commands import (
    parse_attributes,
    parse_auth,
    parse_hello,
    parse_mail,
    parse_rcpt,
    parse_text,
)
from elemta.smtp.events import (
    Data,
    Event,
    Expand,
    Fault,
    Help,
    Noop,
    Quit,
    Reset,
    StartTls,
    Verify,
    XClient,
    XForward,
)
from elemta.smtp.progress import Progress

# These end a pipelined group (RFC 2920 §3.1); MAIL, RCPT and RSET may have more behind them.
SYNC_POINTS = frozenset(
    b"EHLO HELO LHLO DATA VRFY EXPN NOOP QUIT STARTTLS AUTH XCLIENT XFORWARD".split()
)


def _ehlo(_progress: Progress, argument: bytes) -> Event:
    return parse_hello(argument, "EHLO")


def _helo(_progress: Progress, argument: bytes) -> Event:
    return parse_hello(argument, "HELO")


def _lhlo(_progress: Progress, argument: bytes) -> Event:
    return parse_hello(argument, "LHLO")


def _mail(progress: Progress, argument: bytes) -> Event:
    fault = progress.judge_mail()
    if fault is not None:
        return fault
    return parse_mail(argument, progress.limits, progress.offer)


def _rcpt(progress: Progress, argument: bytes) -> Event:
    fault = progress.judge_rcpt()
    if fault is not None:
        return fault
    event = parse_rcpt(argument, progress.offer, smtputf8=progress.wide)
    if isinstance(event, Fault):
        progress.note_recipient(accepted=False)
    return event


def _data(progress: Progress, argument: bytes) -> Event:
    return _judge_no_argument(argument) or progress.judge_data() or Data()


def _rset(_progress: Progress, argument: bytes) -> Event:
    return _judge_no_argument(argument) or Reset()


def _quit(_progress: Progress, argument: bytes) -> Event:
    return _judge_no_argument(argument) or Quit()


def _noop(_progress: Progress, argument: bytes) -> Event:
    return commands.CONTROLS if parse_text(argument) is None else Noop()


def _help(_progress: Progress, argument: bytes) -> Event:
    return commands.CONTROLS if parse_text(argument) is None else Help()


def _vrfy(_progress: Progress, argument: bytes) -> Event:
    text = parse_text(argument)
    return Verify(text) if text else commands.NAME_EXPECTED


def _expn(_progress: Progress, argument: bytes) -> Event:
    text = parse_text(argument)
    return Expand(text) if text else commands.NAME_EXPECTED


def _starttls(progress: Progress, argument: bytes) -> Event:
    if progress.is_encrypted:
        return commands.TLS_ALREADY
    if not progress.offer.starttls:
        return commands.UNAVAILABLE
    return _judge_no_argument(argument) or StartTls()


def _auth(progress: Progress, argument: bytes) -> Event:
    return progress.judge_auth() or parse_auth(argument, progress.offer)


def _xclient(progress: Progress, argument: bytes) -> Event:
    if not progress.offer.xclient:
        return commands.NOT_A_PROXY
    return progress.judge_proxy() or parse_attributes(argument, XClient)


def _xforward(progress: Progress, argument: bytes) -> Event:
    if not progress.offer.xforward:
        return commands.NOT_A_PROXY
    return progress.judge_proxy() or parse_attributes(argument, XForward)


def _unavailable(_progress: Progress, _argument: bytes) -> Event:
    return commands.UNAVAILABLE


def _judge_no_argument(argument: bytes) -> Fault | None:
    return commands.NO_ARGUMENT if argument.strip(b" \t") else None


_Handler = Callable[[Progress, bytes], Event]
_SHARED: dict[bytes, _Handler] = {
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _data,
    b"RSET": _rset,
    b"NOOP": _noop,
    b"QUIT": _quit,
    b"HELP": _help,
    b"VRFY": _vrfy,
    b"EXPN": _expn,
    b"STARTTLS": _starttls,
    b"AUTH": _auth,
    b"XCLIENT": _xclient,
    b"XFORWARD": _xforward,
    b"ETRN": _unavailable,
    b"TURN": _unavailable,
    b"SEND": _unavailable,
    b"SOML": _unavailable,
    b"SAML": _unavailable,
}
SMTP_VERBS: Mapping[bytes, _Handler] = {**_SHARED, b"EHLO": _ehlo, b"HELO": _helo}
# RFC 2033 §4.1: HELO and EHLO are not part of LMTP
LMTP_VERBS: Mapping[bytes, _Handler] = {**_SHARED, b"LHLO": _lhlo}
