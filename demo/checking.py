"""What came back, beside what was sent: from the log, and through the group."""

from array import array
from dataclasses import dataclass, field

from demo.library import Library
from demo.output import say
from metaq.aio import Message, Receipt


class Receipts:
    """Where each line was stored, by its number: partition and offset, in 9 bytes a line."""

    def __init__(self) -> None:
        self._partitions = array("B")
        self._offsets = array("q")

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, receipt: Receipt) -> None:
        """Take the receipt of the next line."""
        self._partitions.append(int(receipt.partition.partition("-")[2]))
        self._offsets.append(receipt.offset)

    def names(self, number: int, message: Message) -> bool:
        """Tell whether a message is the one that the receipt of a line is for."""
        return self._offsets[number] == message.offset and self._partitions[number] == int(
            message.partition.partition("-")[2]
        )


@dataclass(slots=True)
class Comparison:
    """What came back, beside what was sent."""

    library: Library
    receipts: Receipts
    found: bytearray
    read: int = 0
    repeated: int = 0  # sent again because the receipt was lost, and stored both times
    changed: list[str] = field(default_factory=list)

    def take(self, message: Message) -> None:
        """Look at one message."""
        self.read += 1
        number = self.library.number(message.attribute or "")
        if message.data != self.library.lines[number]:
            self.changed.append(f"{message.attribute} at {message.partition} {message.offset}")
        elif self.receipts.names(number, message):
            self.found[number] = 1
        else:
            self.repeated += 1

    def report(self) -> bool:
        """Say how it came out; return whether all is well."""
        missing = self.found.count(0)
        for what in self.changed[:5]:
            say("CHANGED", what)
        if missing:
            say("MISSING", f"{missing:,} acknowledged lines")
        if not (missing or self.changed):
            say("checked", "every acknowledged line is there, unchanged, where its receipt says")
        say("repeated", f"{self.repeated:,} lines, stored before the kill and sent again without a receipt")
        return not (missing or self.changed)


@dataclass(slots=True)
class Consumed:
    """How often each line came to a member of the group."""

    library: Library
    counts: bytearray
    lines: int = 0  # that came at all
    messages: int = 0

    def take(self, attribute: str) -> None:
        """Note one message, by its attribute."""
        number = self.library.number(attribute)
        self.messages += 1
        self.lines += self.counts[number] == 0
        self.counts[number] = min(self.counts[number] + 1, 255)

    def report(self) -> bool:
        """Say how it came out; return whether every line came."""
        missing = self.counts.count(0)
        if missing:
            say("MISSING", f"{missing:,} lines never came to the group")
        else:
            again = self.messages - self.lines
            say("group", f"every line came to a member; {again:,} came again, after the kills")
        return not missing
