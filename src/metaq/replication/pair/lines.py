"""What the master knows of each partition at its slave."""

from typing import Final

from metaq.model import TopicPartition

NOT_COMPARED: Final = "it is not compared with the slave's yet"


class Line:
    """One partition. `live`: the slave has all of it, and gets each run as it is written.

    Else `reason` says why not; `own`: that concerns this partition alone, the slave is well. `pulling`: what is
    appended comes from the slave. `sent`: where that ends which was sent. `anew`: the log was dropped here and begun
    again, so that of the slave is void.
    """

    __slots__ = ("anew", "key", "live", "own", "pause", "pulling", "queued", "reason", "sent")

    def __init__(self, key: TopicPartition) -> None:
        self.key = key
        self.live = False
        self.own = False
        self.pulling = False
        self.anew = False
        self.queued = False
        self.sent = 0
        self.reason = NOT_COMPARED
        self.pause = 0.0  # seconds before it is tried again


class Lines:
    """All partitions. `behind` is how many are neither live nor have a fault of their own."""

    def __init__(self) -> None:
        self._lines: dict[TopicPartition, Line] = {}
        self.behind = 0

    def get(self, key: TopicPartition) -> Line | None:
        """Return the line of a partition, None if it has none yet."""
        return self._lines.get(key)

    def all(self) -> list[Line]:
        """Return all lines."""
        return list(self._lines.values())

    def add(self, key: TopicPartition) -> Line:
        """Return the line of a partition, made if need be: it is behind then."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key)
            self.behind += 1
        return line

    def set_live(self, line: Line) -> None:
        """The slave has all of a partition."""
        self.behind -= not (line.live or line.own)
        line.live, line.own, line.reason, line.pause = True, False, "", 0.0

    def set_behind(self, line: Line, reason: str, *, own: bool = False) -> None:
        """The slave may lack something of a partition."""
        self.behind += (not own) - (not (line.live or line.own))
        line.live, line.own, line.reason = False, own, reason
