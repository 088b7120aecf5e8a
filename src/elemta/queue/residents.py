"""What is planned in memory: messages, the parcels they are tried in, and how much that may be.

A recipient in memory is active in the store, and the store has everything: what does not fit
here waits there, and what is lost here is read again at the next start.

There are two allowances, one for mail that has just been accepted and one for mail that is
read back, so that neither a flood of new mail nor a long backlog shuts the other out.
"""

from collections.abc import Iterable, Iterator

from elemta.mail.content import Content
from elemta.mail.ids import QueueId
from elemta.mail.job import Destination
from elemta.mail.message import Message, Recipient
from elemta.queue.fairness import Entry

Group = tuple[Destination, list[Recipient]]


class Resident:
    """A message in memory.

    Attributes:
        content: Its content where that is at hand; None: the store has it.
        held: Octets of memory that the content takes.
        parcels: Those that have not ended.
    """

    __slots__ = ("content", "held", "message", "parcels")

    def __init__(self, message: Message, content: Content | None, held: int) -> None:
        self.message = message
        self.content = content
        self.held = held
        self.parcels: list[Parcel] = []


class Parcel(Entry):
    """Recipients of one message that are tried together.

    Attributes:
        is_fresh: Which allowance it is on.
    """

    __slots__ = ("destination", "is_fresh", "recipients", "resident")

    def __init__(self, resident: Resident, group: Group, *, is_fresh: bool) -> None:
        self.destination, self.recipients = group
        super().__init__(len(self.recipients))
        self.resident = resident
        self.is_fresh = is_fresh


class Residents:
    """All messages in memory, by id.

    Attributes:
        fresh, reread: Recipients on each allowance.
        held: Octets of content.
        apart: Messages that a read of the store does not take up: on their way in, where it
            may be the first to see them, or to be looked at later, after a fault.
    """

    def __init__(self, max_resident: int, max_bytes: int) -> None:
        self.fresh = self.reread = self.held = 0
        self.apart: set[QueueId] = set()
        self._by_id: dict[QueueId, Resident] = {}
        self._departed: set[tuple[QueueId, int, int]] | None = None
        self.max_bytes = max_bytes
        self.reread_limit = max(1, max_resident // 4)
        self.fresh_limit = max(1, max_resident - self.reread_limit)

    def __len__(self) -> int:
        """How many messages."""
        return len(self._by_id)

    @property
    def recipients(self) -> int:
        """How many recipients."""
        return self.fresh + self.reread

    @property
    def room(self) -> int:
        """How many recipients may be read back."""
        return self.reread_limit - self.reread

    def find(self, queue_id: QueueId) -> Resident | None:
        return self._by_id.get(queue_id)

    def admit(
        self, message: Message, groups: Iterable[Group], content: Content | None, *, is_fresh: bool
    ) -> list[Parcel]:
        """Take a message in, or more recipients of one that is here; a parcel for each group."""
        resident = self._by_id.get(message.queue_id)
        if resident is None:
            content, held = self._afford(content)
            resident = self._by_id[message.queue_id] = Resident(message, content, held)
        parcels = []
        count = 0
        for group in groups:
            parcel = Parcel(resident, group, is_fresh=is_fresh)
            count += parcel.cost
            parcels.append(parcel)
        resident.parcels += parcels
        if is_fresh:
            self.fresh += count
        else:
            self.reread += count
        return parcels

    def _afford(self, content: Content | None) -> tuple[Content | None, int]:
        """Keep content as far as memory reaches; what is in a file takes none."""
        if content is None or content.data is None:
            return content, 0
        if self.held + content.size > self.max_bytes:
            return None, 0
        self.held += content.size
        return content, content.size

    def depart(self, parcel: Parcel) -> None:
        """Forget a parcel, and its message with the last one."""
        resident = parcel.resident
        resident.parcels.remove(parcel)
        if parcel.is_fresh:
            self.fresh -= parcel.cost
        else:
            self.reread -= parcel.cost
        if self._departed is not None:
            self._departed.update(_keys(parcel))
        if not resident.parcels:
            self.held -= resident.held
            del self._by_id[resident.message.queue_id]

    # ---- what a read of the store meets

    def begin_read(self) -> None:
        """Remember who departs, until `end_read`: a snapshot of the store may still show them."""
        self._departed = set()

    def end_read(self) -> None:
        self._departed = None

    def strangers(self, queue_id: QueueId, recipients: Iterable[Recipient]) -> list[Recipient]:
        """Those that are neither here nor apart, and have not departed since `begin_read`.

        A recipient is known by its attempts too: one that came back after an attempt is
        another than the one that was tried.
        """
        if queue_id in self.apart:
            return []
        resident = self._by_id.get(queue_id)
        departed = self._departed or ()
        here = {key for parcel in resident.parcels for key in _keys(parcel)} if resident else ()
        strangers = []
        for recipient in recipients:
            key = (queue_id, recipient.index, recipient.attempts)
            if key not in here and key not in departed:
                strangers.append(recipient)
        return strangers


def _keys(parcel: Parcel) -> Iterator[tuple[QueueId, int, int]]:
    queue_id = parcel.resident.message.queue_id
    return ((queue_id, each.index, each.attempts) for each in parcel.recipients)
