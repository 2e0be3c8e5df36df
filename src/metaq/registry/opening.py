"""Opening a registry's folder: lock, snapshot, log; what is read from which, and what is refused.

Opening is recovering, whether the last process ended in order or not:

1. Files that were being written when a process ended have names of their own (`layout`) and are removed.
2. The newest snapshot that is whole, then all of the log behind it. One that is damaged is replaced by the one before
   it and more of the log; the folder keeps as much of the log as that takes.
3. The log ends with the last round that is whole. If anything says that a later one was on disk, the folder is refused
   and nothing is changed.
4. The last round may be in memory only, of a process that was killed before its sync or after a failed one: it is
   written again and synced, since everybody will see it now.
5. The log goes on in a new file. It names the round that it goes on from, so what was torn behind that stays void.
"""

import logging
from contextlib import suppress
from typing import Final, NamedTuple

from metaq.errors import CorruptStore, StoreError, StoreLocked
from metaq.ports import Files, World
from metaq.registry.entries import Mark, unpack_changes
from metaq.registry.layout import Found, look, make_place, remove
from metaq.registry.log import FileLog, Held, LogOptions
from metaq.registry.log_files import LogFiles, Start
from metaq.registry.reading import LogReader, Round
from metaq.registry.snapshot import HEADER_SIZE, decode, decode_mark
from metaq.registry.snapshots import KEPT, Snapshots
from metaq.registry.state import State
from metaq.registry.tree import Refusal

log = logging.getLogger(__name__)

_DEFAULTS: Final = LogOptions()


class Opened(NamedTuple):
    """A registry's state, and the log for what changes it from here on."""

    state: State
    log: FileLog


class Recovered(NamedTuple):
    """What was read: the state, where the log goes on, its last round if that may not be durable, the snapshots used.

    `damaged`: a newer snapshot is no good.
    """

    state: State
    start: Start
    last: Round | None
    kept: list[Mark]
    damaged: bool


def open_registry(place: str, world: World, options: LogOptions = _DEFAULTS) -> Opened:
    """Recover the registry in the folder `place`, which is made if it is missing. Blocks; call it on the loop.

    Raises StoreLocked; CorruptStore, then nothing was changed; StoreError where there is no room; OSError.
    """
    files = world.files
    make_place(files, place)  # also syncs the names in it, which may be there in memory only
    try:
        lock = files.lock_dir(place)
    except BlockingIOError as exc:
        raise StoreLocked(f"{place} is in use by another registry") from exc
    opened = None
    try:
        found = look(files, place)
        recovered = recover(files, place, found)
        remove(files, found.void)
        _make_durable(files, recovered.last)
        opened = _start(place, world, recovered, lock, options)
    finally:
        if opened is None:
            files.close(lock)
    return opened


def recover(files: Files, place: str, found: Found) -> Recovered:
    """Read snapshot and log; changes nothing. Raises CorruptStore, OSError."""
    damage = ""
    newest_first = sorted(found.snapshots, reverse=True)
    for position, sequence in enumerate(newest_first):
        path = found.snapshots[sequence]
        try:
            state, mark = decode(files.read(path))
            if mark.sequence != sequence:
                raise ValueError(f"it is that of round {mark.sequence}")
        except ValueError as exc:
            damage = damage or f"{path}: {exc}"
            continue
        kept = [mark, *_headers(files, [found.snapshots[older] for older in newest_first[position + 1 :]])]
        return _replay(files, place, found, (state, kept[:KEPT], damage))
    return _replay(files, place, found, (State.fresh(), [], damage))


def _headers(files: Files, paths: list[str]) -> list[Mark]:
    """Return the marks of snapshots whose header can be read."""
    marks = []
    for path in paths:
        fd = files.open(path)
        try:
            with suppress(ValueError):
                marks.append(decode_mark(files.pread(fd, HEADER_SIZE, 0))[0])
        finally:
            files.close(fd)
    return marks


def _replay(files: Files, place: str, found: Found, base: tuple[State, list[Mark], str]) -> Recovered:
    state, kept, damage = base
    reader = LogReader(files, place, found.logs, kept[0] if kept else None)
    rounds = 0
    try:
        if damage and not kept and not found.logs:
            raise CorruptStore(f"{place} has no log")
        for each in reader.rounds():
            _apply(state, each)
            rounds += 1
    except CorruptStore as exc:
        if damage:
            raise CorruptStore(f"{damage}; and without it: {exc}") from exc
        raise
    if damage:
        log.warning("%s; what it held was taken from the log instead", damage)
    log.info("%s: %d nodes, %d rounds of log since the snapshot", place, len(state.tree.nodes), rounds)
    start = Start(reader.generation + 1, reader.number + 1, reader.sequence, reader.chain, reader.backlog)
    return Recovered(state, start, reader.last, kept, bool(damage))


def _apply(state: State, round: Round) -> None:
    try:
        for position, change in unpack_changes(round.payload):
            try:
                state.replay(change)
            except Refusal as exc:
                raise ValueError(f"the change at {position} does not fit the state: {exc}") from exc
    except ValueError as exc:
        raise CorruptStore(f"{round.path}: the round at {round.position} cannot be carried out: {exc}") from exc


def _make_durable(files: Files, last: Round | None) -> None:
    """See 4. A sync alone would not do: after one that failed, the bytes count as written."""
    if last is not None:
        fd = files.open(last.path, write=True)
        try:
            files.pwrite(fd, last.data, last.position)
            files.fdatasync(fd)
        finally:
            files.close(fd)


def _start(place: str, world: World, recovered: Recovered, lock: int, options: LogOptions) -> Opened:
    workers = world.threads.worker("registry-log"), world.threads.worker("registry-snapshots")
    log_files = LogFiles(place, world.files, workers, options.file_size, world.random.randrange(1 << 62))
    snapshots = Snapshots(place, world.files, workers[1], recovered.kept)
    opened = None
    try:
        _begin(place, log_files, recovered.start)
        file_log = FileLog(recovered.state, log_files, snapshots, Held(world.files, workers, lock), options)
        if recovered.damaged:
            file_log.snapshot_soon()
        opened = Opened(recovered.state, file_log)
    finally:
        if opened is None:
            for worker in workers:
                worker.close()
            log_files.close()
    return opened


def _begin(place: str, log_files: LogFiles, start: Start) -> None:
    try:
        log_files.open(start)
    except OSError as exc:
        raise StoreError(f"{place}: cannot begin a file of the registry's log: {exc.strerror or exc}") from exc
