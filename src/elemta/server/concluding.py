"""What a session says and writes down at the end of a message, if need be for each recipient."""

import msgspec

from elemta.mail import events as ev
from elemta.mail.message import Message
from elemta.mail.reply import Reply
from elemta.mail.why import Mail as Described
from elemta.plugins.asking.chain import REFUSED, Decision
from elemta.server.answering import Answering
from elemta.server.inspection import queued
from elemta.server.journal import MAX_RECIPIENTS
from elemta.server.parting import Parting
from elemta.server.transaction import Transaction


class Concluding(Answering):
    """The part of a session that ends messages."""

    __slots__ = ("_data_began", "_messages")

    _data_began: float
    _messages: int

    def _conclude(
        self, transaction: Transaction, result: Message | Reply, *, is_mended: bool
    ) -> None:
        """Say what has become of a message."""
        if isinstance(result, Message):
            if is_mended:
                changes = ["end lines with CRLF"]
                around, queue_id = self._around, result.queue_id
                around.emit(ev.MessageMended(self._id, queue_id, self._login, changes))
            self._accepted(transaction, result)
        elif transaction.parting is not None:
            self._refused_all(transaction, transaction.parting, result)
        elif result.is_positive:  # plugins had it thrown away
            self._messages, self._junk = self._messages + 1, 0
            self._decide(transaction.describe(MAX_RECIPIENTS), "discard", transaction.decided)
            self._answer(result)
        else:
            sender = str(transaction.sender or "")
            self._answer(self._report("message", result, sender, "", transaction.decided))

    def _accepted(self, transaction: Transaction, message: Message) -> None:
        self._messages, self._junk = self._messages + 1, 0
        took = round((self._around.clock.monotonic() - self._data_began) * 1000, 2)
        sender = str(message.sender or "")
        recipients = [str(recipient) for recipient in transaction.recipients]
        said = ev.MessageReceived(
            self._id, message.queue_id, sender, recipients, message.size, len(recipients), took
        )
        around, client = self._around, self._client
        around.emit(said)
        parting = transaction.parting
        if around.journal is not None:
            panel, tls = None if client is None else client.panel, self._stream.tls
            mark = None if panel is None else transaction.put_aside
            if mark is None:
                info = None if panel is None else panel.info
                version = "" if tls is None else tls.version
                around.journal.accept(said, message.facts, around.door.kind, version, info)
            else:
                self._decide(transaction.describe(MAX_RECIPIENTS), "quarantine", mark, took)
        if parting is None:
            self._answer(queued(message.queue_id))
        else:
            self._answer_parted(transaction, parting, queued(message.queue_id))

    # ---- recipients that come to different ends

    def _refused_all(self, transaction: Transaction, parting: Parting, reply: Reply) -> None:
        """Say that nobody gets a message: its recipients are refused, or left out, one by one."""
        if reply.is_positive:
            self._messages, self._junk = self._messages + 1, 0
        if reply.is_positive or parting.refusing == "reply":
            self._answer_parted(transaction, parting, reply)
        else:
            sender = str(transaction.sender or "")
            self._answer(self._report("message", reply, sender, "", transaction.decided))

    def _answer_parted(self, transaction: Transaction, parting: Parting, reply: Reply) -> None:
        """Write down what becomes of single recipients, and answer."""
        whole = transaction.describe(MAX_RECIPIENTS)
        for recipient, outcome, decision in parting.settlements():
            mail = msgspec.structs.replace(whole, recipients=(recipient,))
            self._settle(mail, outcome, decision)
        named = transaction.named
        if parting.refusing != "reply" or named is None:
            self._answer(reply)
            return
        told = {}
        for address, decision in parting.refusals():
            mail = msgspec.structs.replace(whole, recipients=(str(address),))
            told[address] = self._refuse_one(mail, decision)
        if not reply.is_positive:  # nobody is left: for those that were left out, too
            reply = next(iter(told.values()))
        replies = [told.get(address, reply) for address in named]
        if not self._around.door.is_lmtp:
            replies.append(reply)  # PRDR ends with one for all
        self._out.append(self._machine.replies(replies))

    def _refuse_one(self, mail: Described, decision: Decision) -> Reply:
        """Write down that one recipient is refused; gives what the client is told of it."""
        (recipient,) = mail.recipients
        reply = decision.refusal or REFUSED
        told = self._report("message", reply, mail.sender, recipient, decision, mail)
        plugin, note = decision.plugin, decision.note
        self._around.emit(
            ev.RecipientSettled(
                self._id, mail.queue_id, recipient, "reject", plugin, note, str(told)
            )
        )
        return told
