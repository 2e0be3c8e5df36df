"""When a slave may become the master, what is lost by it, and the note that it has: pure but for the note.

The note lies among the broker's data, since these are what makes it the master: a broker that has it starts as the
master whatever it is started as, and a slave that is set up anew, with an empty folder, has none.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from metaq.config.model import BrokerConfig
from metaq.errors import MetaqError
from metaq.ports import Files
from metaq.replication.report import SlaveStatus
from metaq.replication.status import PartitionStatus
from metaq.store.checkpoint import replace_file
from metaq.store.store import place_of

NOTE: Final = "promoted"
REMEDY: Final = "; --rest DIR takes what is lacking from the old master's folder, --force goes without it"
_SHOWN: Final = 5  # partitions that a text names


class NotPromoted(MetaqError):
    """The slave is a slave still; the text says why."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a slave may not become the master now. `passes`: perhaps by itself; `forced`: it may be passed over."""

    text: str
    passes: bool
    forced: bool


def obstacle(status: SlaveStatus, *, met: bool) -> Obstacle | None:
    """Return what stands in the way first. `met`: the slave has copied a master since it started."""
    who = f"the master of broker {status.broker_id}"
    if status.master is not None:
        return Obstacle(
            f"{who} is registered at {status.master}: stop it first; one that was killed is registered until its "
            "session ends",
            passes=True,
            forced=False,
        )
    if status.copying.connected:
        return Obstacle(f"{who} at {status.copying.master} has left ZooKeeper, but serves on", passes=True, forced=True)
    lost = losses(status, met=met)
    return Obstacle(lost, passes=False, forced=True) if lost else None


def losses(status: SlaveStatus, *, met: bool) -> str:
    """Return what of the master's messages is not here, as one sentence; "": nothing."""
    if not met:
        return "what the master has more is not known: this slave has not met it since it was started"
    lacking = [each for each in status.copying.partitions if each.lag]
    unknown = [each for each in status.copying.partitions if each.error or not each.complete]
    if lacking:
        count = "an unknown number of" if status.total.messages is None else f"about {status.total.messages}"
        where = _named(f"{each.key} from {each.end} to {each.master_end}" for each in lacking)
        return f"{status.total.bytes} bytes, {count} messages, are at the master only: {where}"
    if unknown:
        return f"what the master has more is not known of {_named(_why(each) for each in unknown)}"
    return ""


def _why(each: PartitionStatus) -> str:
    return str(each.key) if each.error is None else f"{each.key} ({each.error})"


def _named(names: Iterator[str]) -> str:
    known = list(names)
    more = f", and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more


def note_of(config: BrokerConfig) -> str:
    """Return the path of the note."""
    return f"{place_of(config).own}/{NOTE}"


def is_promoted(files: Files, config: BrokerConfig) -> bool:
    """Tell whether the broker of these files was made the master. OSError."""
    return files.exists(note_of(config))


def write_note(files: Files, config: BrokerConfig, lost: str) -> None:
    """Note it, durably. OSError."""
    text = (
        f"This broker was made the master of broker {config.broker_id}; it starts as that, also with `start slave`.\n"
        f"Lost by that: {lost or 'nothing'}\n"
        "To start it as a slave again, remove this file.\n"
    )
    replace_file(files, place_of(config).own, NOTE, text.encode())


def remove_note(files: Files, config: BrokerConfig) -> None:
    """Take it back. OSError."""
    with suppress(FileNotFoundError):
        files.remove(note_of(config))
