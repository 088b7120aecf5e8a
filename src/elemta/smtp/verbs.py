"""The verbs of SMTP and LMTP: for each, the event that a command asks for, or its fault.

BDAT is missing: it is half a command, half content, and read by the machine itself.
"""

from collections.abc import Callable, Mapping

from elemta.smtp import commands
from elemta.smtp.commands import parse_hello, parse_mail, parse_rcpt, parse_text
from elemta.smtp.events import Data, Event, Expand, Fault, Help, Noop, Quit, Reset, Verify
from elemta.smtp.progress import Progress

# These end a pipelined group (RFC 2920 §3.1); MAIL, RCPT and RSET may have more behind them.
SYNC_POINTS = frozenset(
    (b"EHLO", b"HELO", b"LHLO", b"DATA", b"VRFY", b"EXPN", b"NOOP", b"QUIT", b"STARTTLS", b"AUTH")
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
    return parse_mail(argument, progress.limits, smtputf8=progress.smtputf8)


def _rcpt(progress: Progress, argument: bytes) -> Event:
    fault = progress.judge_rcpt()
    if fault is not None:
        return fault
    event = parse_rcpt(argument, smtputf8=progress.wide)
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
    b"STARTTLS": _unavailable,
    b"AUTH": _unavailable,
    b"ETRN": _unavailable,
    b"TURN": _unavailable,
    b"SEND": _unavailable,
    b"SOML": _unavailable,
    b"SAML": _unavailable,
}
SMTP_VERBS: Mapping[bytes, _Handler] = {**_SHARED, b"EHLO": _ehlo, b"HELO": _helo}
# RFC 2033 §4.1: HELO and EHLO are not part of LMTP
LMTP_VERBS: Mapping[bytes, _Handler] = {**_SHARED, b"LHLO": _lhlo}
