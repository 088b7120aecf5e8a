"""One message to some recipients over one connection: SMTP and LMTP alike.

Each recipient ends delivered, deferred or failed, as the replies say, or without an outcome
where the peer said nothing about it: then another connection may be tried. Once the content
may have been taken in whole, nobody else is tried: a connection lost after the final dot
leaves it open whether the message was delivered, and it is deferred (RFC 1047 lives on).

Where the peer offers PIPELINING, MAIL, all RCPT and DATA leave in one write (RFC 2920 §3.1);
small content and its dot in another.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace

from elemta.delivery.connection import AGREEING, Connection, Waits, describe, lost_reply
from elemta.delivery.fitting import BINARY, fit, is_doubtful
from elemta.delivery.settings import Route
from elemta.mail.content import Content
from elemta.mail.errors import LocalProtocolError, RemoteProtocolError
from elemta.mail.message import Message, Recipient, Requests
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.net import steps
from elemta.smtp.requests import mail_parameters, rcpt_parameters

NO_REQUIRETLS = Reply(550, "no verified TLS with REQUIRETLS (RFC 8689) there", "5.7.30")
_NO_DEADLINE = Reply(554, "the next hop does not take DELIVERBY (RFC 2852)", "5.4.7")
_NO_UTF8 = Reply(553, "the next hop does not take SMTPUTF8 (RFC 6531)", "5.6.7")
_UNFIT = Reply(554, "the content has a CR, LF or NUL that is not of a line end", "5.6.0")
_TOO_MANY = (None, "4.5.3", "5.5.3")  # RFC 3463 §3.6: too many recipients
_OVER_LIMIT = Reply(452, "more recipients than the next hop takes at once (RFC 9422)", "4.5.3")


class _Closed(Exception):  # noqa: N818 - a turn in the dialogue, seen by nobody else
    """The peer ended the session with a 421."""

    def __init__(self, reply: Reply):
        super().__init__()
        self.reply = reply


class Transaction:
    """Run once; then `outcomes` tells.

    Attributes:
        outcomes: One for each recipient, in their order; None where the peer gave no answer.
        problem: Why not, where there is a None.
        is_answered: The peer has judged the MAIL command: it is the one to deal with.
    """

    def __init__(
        self,
        connection: Connection,
        message: Message,
        recipients: Sequence[Recipient],
        content: Content,
        waits: Waits,
        route: Route,
    ):
        self.outcomes: list[Outcome | None] = [None] * len(recipients)
        self.problem: Reply | None = None
        self.is_answered = False
        self._connection = connection
        self._machine = connection.machine
        self._message = message
        self._recipients = recipients
        self._content = content
        self._waits = waits
        self._route = route
        self._told: list[int] = []  # places of the recipients that RCPT is sent for
        self._accepted: list[int] = []
        self._delayed: list[int] = []  # too many for one transaction
        self._needs_utf8 = False
        self._is_sending = False
        self._is_binary = False

    async def run(self) -> None:
        """Send the message; the connection is aborted when it cannot be used again.

        Raises:
            CorruptError: The content could not be read; nothing was delivered.
        """
        connection = self._connection
        connection.used += 1
        is_over = False
        try:
            if self._may_send() and (not self._is_doubtful() or await self._make_fit()):
                await self._converse()
            is_over = True
        except _Closed as error:
            self._end(error.reply)
        except RemoteProtocolError as error:
            self._end(Reply(451, describe(error), "4.5.0"))
        except LocalProtocolError:
            if not self._is_sending:
                raise
            self._settle(self._accepted, _UNFIT)
        except OSError as error:
            await self._hear_last()
            self._end(lost_reply(error, self._stage()))
        finally:
            if not is_over:
                connection.abort()
        if self._delayed:
            self._judge_delayed()

    # ---- what this peer can be given

    def _may_send(self) -> bool:
        """Compare what the message needs with what the peer offers."""
        machine, message = self._machine, self._message
        sender, facts, size = message.sender, message.facts, self._content.size
        if 0 < machine.size_limit < size:
            text = f"the message has {size} octets, the next hop takes {machine.size_limit}"
            self._settle(range(len(self._recipients)), Reply(552, text, "5.3.4"))
            return False
        if facts.requests is not None:
            self.problem = self._find_lack(facts.requests)
            if self.problem is not None:
                return False
        self._told = list(range(len(self._recipients)))
        utf8_content = facts.smtputf8 and facts.has_8bit  # else the declaration asked too much
        utf8_sender = sender is not None and sender.needs_smtputf8
        wide = [i for i, each in enumerate(self._recipients) if each.address.needs_smtputf8]
        self._needs_utf8 = utf8_content or utf8_sender or bool(wide)
        if self._needs_utf8 and not machine.has_smtputf8:
            self.problem = _NO_UTF8
            if utf8_content or utf8_sender:
                return False
            self._needs_utf8 = False
            self._told = [i for i in self._told if i not in wide]
        if machine.limits:
            self._obey_limits()
        return bool(self._told)

    def _find_lack(self, requests: Requests) -> Reply | None:
        """Say what the sender insists on, and this peer would not see to on the rest of the way."""
        machine = self._machine
        if machine.lmtp:
            return None
        if requests.require_tls and "REQUIRETLS" not in machine.extensions:
            return NO_REQUIRETLS
        is_strict = requests.deliver_by and requests.by_mode == "R"
        return _NO_DEADLINE if is_strict and "DELIVERBY" not in machine.extensions else None

    def _obey_limits(self) -> None:
        """Leave out who is over the number of recipients or domains that the peer takes."""
        limits, told = self._machine.limits, self._told
        most, most_domains = (
            limits.get("RCPTMAX", len(told)),
            limits.get("RCPTDOMAINMAX", len(told)),
        )
        domains: set[str] = set()
        self._told = []
        for place in told:
            domain = self._recipients[place].address.domain
            is_near = domain in domains or len(domains) < most_domains
            if is_near and len(self._told) < most:
                self._told.append(place)
                domains.add(domain)
            else:
                self._settle((place,), _OVER_LIMIT)
                self._delayed.append(place)

    def _is_doubtful(self) -> bool:
        return is_doubtful(self._message.facts, self._route, eight_bit=self._machine.has_8bit)

    async def _make_fit(self) -> bool:
        """Have the content converted where the peer cannot take it; False where it cannot be."""
        facts, eight_bit = self._message.facts, self._machine.has_8bit
        if facts.body == BINARY and self._machine.has_binary:
            self._is_binary = True
            return True
        fitted = await fit(self._content, facts, self._route, eight_bit=eight_bit)
        if isinstance(fitted, Reply):
            self.problem = self.problem or fitted
            return False
        self._content = fitted
        return True

    # ---- the dialogue

    async def _converse(self) -> None:
        connection = self._connection
        connection.agree_within(AGREEING * self._waits.command)
        if not await self._agree():
            return
        connection.agree_within(math.inf)
        if self._is_binary:
            await self._send_chunks()
        elif await self._await_data():
            await self._send_content()
            await self._await_end()

    async def _agree(self) -> bool:
        """Send the envelope and hear of it; False where there is nothing more to do or hear."""
        machine, stream = self._machine, self._connection.stream
        resets, pipelining = machine.in_transaction, machine.has_pipelining
        commands = [self._mail()]
        if pipelining:
            commands += [self._rcpt(place) for place in self._told]
            if not self._is_binary:
                commands.append(machine.data())
        stream.write(b"".join(commands))
        if resets:
            await self._await_reset()
        if not await self._await_mail() and not pipelining:
            return False
        for place in self._told:
            if not pipelining:
                stream.write(self._rcpt(place))
            await self._await_rcpt(place)
        if self._is_binary:
            return bool(self._accepted)
        if not pipelining:
            if not self._accepted:
                return False
            stream.write(machine.data())
        return True

    def _mail(self) -> bytes:
        message, machine = self._message, self._machine
        facts, words = message.facts, ""
        if facts.requests is not None:
            words = mail_parameters(facts.requests, machine.extensions, self._connection.now())
        return machine.mail(
            message.sender,
            size=self._content.size,
            eight_bit=facts.has_8bit and machine.has_8bit,
            smtputf8=self._needs_utf8,
            binary=self._is_binary,
            parameters=words,
        )

    def _rcpt(self, place: int) -> bytes:
        recipient, requests = self._recipients[place], self._message.facts.requests
        if requests is None:
            return self._machine.rcpt(recipient.address)
        words = rcpt_parameters(requests, recipient.index, self._machine.extensions)
        return self._machine.rcpt(recipient.address, words)

    async def _await_reset(self) -> None:
        reply = await self._connection.reply(self._waits.command)
        if reply.code >= 300:
            raise _Closed(Reply(451, f"the session is stuck: {reply}", "4.5.0"))

    async def _await_mail(self) -> bool:
        """Read the answer to MAIL; False if it was refused."""
        reply = await self._connection.reply(self._waits.command)
        code = reply.code
        if code == 421:
            raise _Closed(reply)
        self.is_answered = True
        if code < 300:
            return True
        if code < 400:
            raise RemoteProtocolError(f"no answer to MAIL: {reply}")
        self._settle(self._told, reply)
        return False

    async def _await_rcpt(self, place: int) -> None:
        reply = await self._connection.reply(self._waits.command)
        code = reply.code
        if code < 300:
            if self.outcomes[place] is None:  # MAIL was not refused
                self._accepted.append(place)
            return
        if code == 421:
            raise _Closed(reply)
        if code < 400:
            raise RemoteProtocolError(f"no answer to RCPT: {reply}")
        if self.outcomes[place] is not None:
            return
        if code in (452, 552) and self._is_too_many(reply):
            self._delayed.append(place)
            reply = Reply(452, reply.text, "4.5.3")
        self._settle((place,), reply)

    def _is_too_many(self, reply: Reply) -> bool:
        """Whether a 452, or a 552 that means it, is about the number (RFC 5321 §4.5.3.1.10)."""
        return reply.enhanced in _TOO_MANY or "too many" in reply.text.lower()

    async def _await_data(self) -> bool:
        """Read the answer to DATA; True if content is to follow."""
        reply = await self._connection.reply(self._waits.data)
        code = reply.code
        if code == 421:
            raise _Closed(reply)
        if code == 354:
            if self._accepted:
                return True
            await self._send_nothing()
            return False
        if code < 400:
            raise RemoteProtocolError(f"no answer to DATA: {reply}")
        self._settle(self._accepted, reply)
        return False

    async def _send_nothing(self) -> None:
        """End what the peer should not have begun: nobody was accepted (RFC 2920 §3.1)."""
        if self._machine.lmtp:  # there will be no reply, now or ever (RFC 2033 §4.2)
            raise RemoteProtocolError("content wanted for no recipient")
        self._connection.stream.write(self._machine.end())
        await self._connection.reply(self._waits.dot)

    async def _send_content(self) -> None:
        connection, machine, stream = self._connection, self._machine, self._connection.stream
        data, block = self._content.data, self._waits.block
        self._is_sending = True
        if machine.has_input:
            self._hear_early()
        if data is not None:
            last = machine.content(data) + machine.end()
        else:
            async for chunk in self._content.chunks():
                stream.write(machine.content(chunk))
                connection.wait_until(block)
                await stream.drain()
                if stream.has_input:
                    machine.receive(await stream.read())
                    self._hear_early()
            last = machine.end()
        steps.reached("smtp.before_dot")
        stream.write(last)
        connection.wait_until(block)
        await stream.drain()
        steps.reached("smtp.after_dot")

    async def _send_chunks(self) -> None:
        """Send content as it is; each piece is answered before the next (RFC 3030 §2)."""
        connection, machine, stream = self._connection, self._machine, self._connection.stream
        self._is_sending = True
        async for chunk in self._content.chunks():
            stream.write(machine.chunk(chunk, last=False))
            connection.wait_until(self._waits.block)
            await stream.drain()
            reply = await connection.reply(self._waits.data)
            if reply.code == 421:
                raise _Closed(reply)
            if 300 <= reply.code < 400:
                raise RemoteProtocolError(f"no answer to BDAT: {reply}")
            if reply.code >= 400:
                self._settle(self._accepted, reply)
                return
        steps.reached("smtp.before_dot")
        stream.write(machine.chunk(b"", last=True))
        connection.wait_until(self._waits.block)
        await stream.drain()
        steps.reached("smtp.after_dot")
        await self._await_end()

    def _hear_early(self) -> None:
        """Take a refusal that comes before the content is complete; nothing else may come."""
        reply = self._machine.next_reply()
        if reply is None:
            return
        if reply.code == 421:
            raise _Closed(reply)
        self._settle(self._accepted, reply)
        raise _Closed(reply)

    async def _hear_last(self) -> None:
        """Look for a refusal among what arrived before a connection broke under our content."""
        stream, machine = self._connection.stream, self._machine
        if self._is_sending and stream.has_input:
            machine.receive(await stream.read())
            with contextlib.suppress(RemoteProtocolError):
                reply = machine.next_reply()
                if reply is not None and reply.code >= 400:
                    self._settle(self._accepted, reply)

    async def _await_end(self) -> None:
        """Read what became of the content: once, or in LMTP for each recipient."""
        accepted = self._accepted
        groups = [[place] for place in accepted] if self._machine.lmtp else [accepted]
        for places in groups:
            reply = await self._connection.reply(self._waits.dot)
            if 300 <= reply.code < 400:
                raise RemoteProtocolError(f"no answer to the content: {reply}")
            self._settle(places, reply)
        steps.reached("smtp.after_reply")

    # ---- what became of whom

    def _settle(self, places: Sequence[int], reply: Reply) -> None:
        """Give these recipients the outcome that a reply means."""
        code = reply.code
        if code < 300:
            result = Result.DELIVERED
        else:
            result = Result.FAILED if code >= 500 else Result.DEFERRED
        connection = self._connection
        tls = connection.stream.tls
        has_requests = self._message.facts.requests is not None
        outcome = Outcome(
            result,
            reply,
            connection.target.host,
            connection.name,
            "lmtp" if self._machine.lmtp else "smtp",
            connection.stream.tls_version,
            notifies=has_requests and "DSN" in self._machine.extensions,
            keeps_deadline=has_requests and "DELIVERBY" in self._machine.extensions,
            tls_group="" if tls is None else tls.group,
        )
        for place in places:
            self.outcomes[place] = outcome

    def _end(self, reply: Reply) -> None:
        """Settle who is left when the session ended early: for now, or with another target."""
        self.problem = reply
        if self.is_answered:
            self._settle([i for i in self._told if self.outcomes[i] is None], reply)

    def _judge_delayed(self) -> None:
        """Who was too many may go at once if this transaction made room for it."""
        outcomes = self.outcomes
        accepted = (outcomes[place] for place in self._accepted)
        has_room = any(each is not None and each.result is Result.DELIVERED for each in accepted)
        if not has_room and not self._machine.limits:
            return
        for place in self._delayed:
            outcome = outcomes[place]
            if outcome is not None:
                outcomes[place] = replace(outcome, retry_at_once=True)

    def _stage(self) -> str:
        if not self.is_answered:
            return "before an answer to MAIL"
        if not self._is_sending:
            return "before the content was sent"
        if self._machine.owed:
            return "after the content was sent: it may have been delivered"
        return "while the content was sent"
