"""For a person before a folder that does not open: what state it is in, and the two ways out of foreign bytes (rule 8).

Nothing here destroys anything: what is given up is moved to `aside`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from metaq.config.model import BrokerConfig
from metaq.errors import StoreError, StoreLocked
from metaq.ports import Entry, Files, World
from metaq.store import checkpoint as checkpoints
from metaq.store.checkpoint import Checkpoint
from metaq.store.journal import Mark
from metaq.store.layout import JAVA_LOCK, Place, find_partitions
from metaq.store.opening import Foreign, foreign_files
from metaq.store.recovery import Survey
from metaq.store.replay import FoundFile, JournalReader, find_files, live_files
from metaq.store.store import MessageStore, place_of

NEW: Final = "new"  # no broker of ours was here yet
CLEAN: Final = "clean"  # stopped in order: the files have the last word, any broker may start
UNCLEAN: Final = "unclean"  # not stopped in order: the journal has the last word, only ours may start
IN_USE: Final = "in use"


@dataclass(frozen=True, slots=True)
class Report:
    """What stands in a broker's folders. `journal_bytes` counts the files that may hold what partition files lack.

    `done` names what was moved or cut, as paths; empty for a mere look.
    """

    state: str
    generation: int
    partitions: int
    journal_files: int
    journal_bytes: int
    aside_files: int
    aside_bytes: int
    java_locked_out: bool
    done: tuple[str, ...] = ()


def examine(config: BrokerConfig, files: Files) -> Report:
    """Look. Changes nothing. Raises CorruptStore if checkpoint or folders cannot be read, OSError."""
    place = place_of(config)
    checkpoint = _checkpoint(files, place)
    live = _live(files, place, checkpoint)
    kept = _aside(files, place)
    roots = [root for root in place.roots if files.exists(root.path)]
    return Report(
        state=_state(files, place, checkpoint),
        generation=checkpoint.mark.generation if checkpoint else 0,
        partitions=len(find_partitions(files, roots, {})),
        journal_files=len(live),
        journal_bytes=sum(file.size for file in live),
        aside_files=len(kept),
        aside_bytes=sum(entry.size for entry in kept),
        java_locked_out=files.exists(f"{place.log_path}/transactions/{JAVA_LOCK}"),
    )


def foreign(config: BrokerConfig, files: Files) -> list[str]:
    """Name the partition files that hold more than the journal knows. Changes nothing. Raises CorruptStore, OSError."""
    place = place_of(config)
    checkpoint = _checkpoint(files, place)
    if checkpoint is None or checkpoint.clean:
        return []
    survey = Survey(checkpoint)
    survey.run(JournalReader(files, _live(files, place, checkpoint), checkpoint.mark))
    homes = {state.key: state.root for state in survey.logs.values()}
    roots = [root for root in place.roots if files.exists(root.path)]
    return foreign_files(survey, find_partitions(files, roots, homes))


def keep_files(config: BrokerConfig, files: Files) -> Report:
    """Give up the journal: partition files have the last word at the next start, of whatever broker.

    What only the journal has is lost to readers; the journal's files are kept in `aside`. What is known of producers'
    batches is forgotten, as they may have stored others since. A crash in between leaves the journal in force or the
    files, and this may be called again. Raises StoreLocked, StoreError if there is nothing to give up, CorruptStore,
    OSError.
    """
    place = place_of(config)
    lock = _lock(files, place)
    try:
        checkpoint = _checkpoint(files, place)
        marked = files.exists(f"{place.log_path}/transactions/{JAVA_LOCK}")
        if checkpoint is None or (checkpoint.clean and not marked):
            raise StoreError(f"{place.own} has no journal that could be given up: it was stopped in order")
        done = tuple(_give_up(files, place, checkpoint))
    finally:
        files.close(lock)
    return replace(examine(config, files), done=done)


async def keep_journal(config: BrokerConfig, world: World) -> Report:
    """Let checkpoint and journal have the last word: what else grew in partition files is cut and kept in `aside`.

    Afterwards the folder is as after a stop in order. Raises what MessageStore.open and close raise.
    """
    place = place_of(config)
    before = {entry.name for entry in _aside(world.files, place)}
    store = MessageStore.open(config, world, Foreign.CUT)
    await store.close()
    done = [f"{place.own}/aside/{e.name}" for e in _aside(world.files, place) if e.name not in before]
    return replace(examine(config, world.files), done=tuple(done))


def _give_up(files: Files, place: Place, checkpoint: Checkpoint) -> Iterator[str]:
    found = find_files(files, f"{place.own}/journal")
    generation = max([checkpoint.mark.generation, *(file.header.generation for file in found if file.header)])
    clean = Checkpoint(
        mark=Mark(generation, 0, 0, checkpoint.mark.sequence, 0),
        clean=True,
        highest_id=checkpoint.highest_id,
        next_log_id=checkpoint.next_log_id,
        boot_id=checkpoint.boot_id,
        logs=checkpoint.logs,  # partitions of the journal alone are found by their folders
    )
    checkpoints.save(files, f"{place.own}/checkpoint", clean)
    for file in live_files(found, checkpoint.mark):
        target = f"{place.own}/aside/{generation}-{file.path.rpartition('/')[2]}"
        files.rename(file.path, target)
        yield target
    files.sync_dir(f"{place.own}/aside")
    files.sync_dir(f"{place.own}/journal")
    folder = f"{place.log_path}/transactions"
    if files.exists(f"{folder}/{JAVA_LOCK}"):
        files.remove(f"{folder}/{JAVA_LOCK}")
        files.sync_dir(folder)


def _state(files: Files, place: Place, checkpoint: Checkpoint | None) -> str:
    if not files.exists(place.log_path):
        return NEW
    try:
        files.close(_lock(files, place))
    except StoreLocked:
        return IN_USE
    if checkpoint is None:
        return NEW
    return CLEAN if checkpoint.clean else UNCLEAN


def _lock(files: Files, place: Place) -> int:
    try:
        return files.lock_dir(place.log_path)
    except BlockingIOError as exc:
        raise StoreLocked(f"{place.log_path} is in use by another broker") from exc


def _checkpoint(files: Files, place: Place) -> Checkpoint | None:
    return checkpoints.load(files, f"{place.own}/checkpoint")


def _live(files: Files, place: Place, checkpoint: Checkpoint | None) -> list[FoundFile]:
    folder = f"{place.own}/journal"
    if checkpoint is None or checkpoint.clean or not files.exists(folder):
        return []
    return live_files(find_files(files, folder), checkpoint.mark)


def _aside(files: Files, place: Place) -> Sequence[Entry]:
    folder = f"{place.own}/aside"
    return files.list(folder) if files.exists(folder) else []
