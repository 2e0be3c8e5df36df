"""What processes do on a machine, so that a crash at any moment meets every rule of recovery (docs/storage.md).

`RULES` has one process each, `SCENES` those and what takes several processes, other brokers, or a person.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from errno import ENOSPC
from typing import Final
from unittest.mock import patch

from metaq.config.model import BrokerConfig, DeletePolicy
from metaq.model import TopicPartition
from metaq.record import pack
from metaq.store import doctor, housekeeping
from metaq.store.log import segment_name
from tests.simulation.cuts import Scene
from tests.simulation.disk import SimDisk
from tests.unit.store.course import ALSO, ELSEWHERE, FAST, HOME, SAFE, Course, Life, Put, config


async def rule_1_generations(life: Life) -> None:
    """Several openings, with and without puts between them, none of them followed by a stop in order."""
    for size in (60, 0, 700, 0, 40):
        life.open()
        if size:
            life.put(FAST, size, size)
            life.put(SAFE, size)
            await life.settle()
        life.store.abandon()


async def rule_2_one_break(life: Life) -> None:
    """More rounds than a journal file takes, synced ones and others, and one that is larger than a file."""
    life.open()
    for number in range(8):
        life.put(FAST, 900, 500)
        if number % 3 == 2:
            life.put(SAFE, 800)
        await life.settle()
    life.put(FAST, 5000, 5000)
    await life.settle()
    life.put(SAFE, 100)
    await life.settle()


async def rule_3_the_end(life: Life) -> None:
    """The background writer is ahead of all syncs."""
    life.open()
    for _ in range(3):
        life.put(FAST, 600, 700)
        await life.settle()
        await life.store.mover.move_all()
    life.put(SAFE, 50)
    life.put(FAST, 600, 700)
    await life.settle()
    await life.store.mover.move_all()


async def rule_4_before_the_port_opens(life: Life) -> None:
    """What is read after an opening was only written, not synced, before it."""
    life.open()
    life.put(FAST, 600, 700, 800)
    await life.settle()
    life.store.abandon()
    life.open()
    life.model.synced()
    await life.look()
    life.put(FAST, 20)
    await life.settle()


async def rule_5_large_runs(life: Life) -> None:
    """Large runs before, between and behind small ones, with puts waiting for them and rolls among them."""
    life.open()
    life.put(SAFE, 100)
    await life.settle()
    life.put(SAFE, 1500, 1600)
    life.put(ALSO, 200)
    await asyncio.sleep(0.001)
    life.put(SAFE, 70)
    life.put(ALSO, 50)
    await life.settle()
    life.put(ALSO, 3000)
    await asyncio.sleep(0.001)
    life.put(ALSO, 3500)
    checkpoint = asyncio.ensure_future(life.checkpoint())
    await life.settle()
    await checkpoint
    life.put(SAFE, 40)
    await life.settle()


async def rule_6_freeing_the_journal(life: Life) -> None:
    """Checkpoints while puts and large runs are on their way; retention behind them."""
    life.open()
    life.model.of(FAST).retires = True
    for number in range(4):
        life.put(FAST, 900, 1200)
        life.put(SAFE, 300, 400)
        await asyncio.sleep(0.001 * number)
        checkpoint = asyncio.ensure_future(life.checkpoint())
        life.put(FAST, 100)
        life.put(SAFE, 3100 if number == 2 else 100)
        await checkpoint
        await life.settle()
        log = life.log(FAST)
        await life.store.housekeeping.retire_log(log, life.machine.clock.time() + 1e7)


async def rule_7_clean_mark(life: Life) -> None:
    """Stopped in order, started, changed by another broker in between, stopped again."""
    life.open()
    life.put(SAFE, 300)
    life.put(FAST, 500)
    await life.settle()
    await life.close()
    append_as_java(life)
    life.open()
    await life.look()
    life.put(SAFE, 200)
    await life.settle()
    await life.close()
    life.open()
    await life.close()


async def rule_8_java_is_locked_out(life: Life) -> None:
    """Cuts, drops and new partitions of the same name; nothing of it may look like another broker's work."""
    life.open()
    life.put(SAFE, 900, 900, 900)
    life.put(ALSO, 900)
    await life.settle()
    await asyncio.gather(life.store.mover.move_all(), life.cut(SAFE, 900))
    life.put(SAFE, 50, 60)
    await life.settle()
    await life.checkpoint()
    await life.drop(ALSO)
    life.put(ALSO, 300)
    await life.settle()
    await life.store.mover.move_all()
    await life.cut(SAFE, 950)
    await life.epoch(SAFE, 3)
    life.put(SAFE, 70)
    await life.settle()
    await life.drop(ALSO)


async def rule_9_rolling(life: Life) -> None:
    """Segments that fill up, cuts back into full ones, and another size of segments."""
    life.open()
    for _ in range(3):
        life.put(SAFE, 700, 800, 900)
        await life.settle()
        await life.store.mover.move_all()
    await life.cut(SAFE, 2400)
    life.log(SAFE).set_limit(500)
    life.put(SAFE, 300, 300)
    await life.settle()
    checkpoint = asyncio.ensure_future(life.checkpoint())
    life.put(SAFE, 300, 300)
    await checkpoint
    await life.cut(SAFE, 1500)
    life.log(SAFE).set_limit(2000)
    life.put(SAFE, 400)
    await life.settle()


def append_as_java(life: Life, *, sync: bool = True) -> None:
    """Append a record to a stopped store's file, as another broker does."""
    log = life.model.of(SAFE)
    disk = life.machine.disk
    path = f"{HOME}/{SAFE}/{0:020}.meta"
    record = pack(-7, 0, b"of another broker")
    fd = disk.open(path, write=True)
    put = Put(disk.size(fd), record)
    log.puts.append(put)
    disk.pwrite(fd, record, put.offset)
    if sync:
        disk.fdatasync(fd)
    disk.close(fd)
    put.acked = put.durable = sync


RULES: Final[dict[str, Course]] = {
    course.__name__: course
    for course in (
        rule_1_generations,
        rule_2_one_break,
        rule_3_the_end,
        rule_4_before_the_port_opens,
        rule_5_large_runs,
        rule_6_freeing_the_journal,
        rule_7_clean_mark,
        rule_8_java_is_locked_out,
        rule_9_rolling,
    )
}


async def kill_after_a_cut(life: Life) -> None:
    """The process ends when it has cut the file, and before it syncs that."""
    life.open()
    life.put(SAFE, 1500, 400)
    await life.settle()
    await life.checkpoint()
    await life.cut(SAFE, 1500)
    while life.machine.disk.log[-1].name != "truncate":
        await asyncio.sleep(0.001)


async def put_into_the_next_segment(life: Life) -> None:
    """Find the file cut already; nothing is written to that segment any more."""
    life.open()
    life.log(SAFE).set_limit(1000)
    life.put(SAFE, 300)
    await life.settle()
    await life.checkpoint()


async def kill_after_a_cut_of_segments(life: Life) -> None:
    """The process ends when it has removed a segment, and before it syncs that."""
    life.open()
    for _ in range(3):
        life.put(SAFE, 2100)
        await life.settle()
    await life.checkpoint()
    await life.cut(SAFE, 2100)
    while life.machine.disk.log[-1].name != "truncate":
        await asyncio.sleep(0.001)


async def leave_to_another_broker(life: Life) -> None:
    life.open()
    life.put(SAFE, 300)
    await life.settle()
    await life.close()
    append_as_java(life, sync=False)


async def take_over(life: Life) -> None:
    """Show somebody what the other broker wrote and did not sync."""
    life.open()
    await life.look()
    life.put(SAFE, 30)
    await life.settle()


async def leave_new_files_to_another_broker(life: Life) -> None:
    """It begins a segment and a partition, and syncs neither names nor bytes."""
    life.open()
    life.put(SAFE, 300)
    await life.settle()
    await life.close()
    with unwatched(life) as disk:
        for key, base in ((SAFE, 300), (TopicPartition("safe", 7), 0)):
            record = pack(-7, 0, b"of another broker")
            life.model.of(key).puts.append(Put(base, record))
            disk.make_dir(f"{HOME}/{key}")
            fd = disk.open(f"{HOME}/{key}/{segment_name(base)}", write=True, create=True)
            disk.pwrite(fd, record, 0)
            disk.close(fd)


async def leave_a_file_cut_short(life: Life) -> None:
    """Somebody cuts it within a record; the next put goes into another segment."""
    life.open()
    life.put(SAFE, 300, 400)
    await life.settle()
    await life.close()
    with unwatched(life) as disk:
        fd = disk.open(f"{HOME}/{SAFE}/{segment_name(0)}", write=True)
        disk.truncate(fd, 600)
        disk.fdatasync(fd)
        disk.close(fd)
    life.model.kept.append(life.model.of(SAFE).puts.pop().data[:300])
    await roll_on(life)


async def roll_on(life: Life) -> None:
    """Let the next put begin a segment, so that nothing more is written to the one before."""
    life.open()
    life.log(SAFE).set_limit(100)
    life.put(SAFE, 200)
    await life.settle()
    await life.checkpoint()


async def leave_a_torn_end(life: Life) -> None:
    """Another broker ended in the middle of a record; what is cut off is kept aside."""
    life.open()
    life.put(SAFE, 300)
    await life.settle()
    await life.close()
    torn = pack(-7, 0, b"half of a record" * 40)[:600]
    stray(life, f"{HOME}/{SAFE}/{segment_name(0)}", torn)
    await take_over(life)


async def kill_after_a_drop(life: Life) -> None:
    """The process ends when it has removed the folder, and before it syncs that."""
    life.open()
    life.put(FAST, 300)
    await life.settle()
    await life.checkpoint()
    await life.drop(FAST)
    while life.machine.disk.exists(f"{ELSEWHERE}/{FAST}"):
        await asyncio.sleep(0.001)


async def start_and_stop(life: Life) -> None:
    life.open()
    await life.close()


async def fill_segments(life: Life) -> None:
    life.open()
    for _ in range(4):
        life.put(SAFE, 900, 1200)
        await life.settle()
    await life.checkpoint()


async def retire_segments(life: Life) -> None:
    """Several go; those behind them stay. What is archived is in the archive."""
    await fill_segments(life)
    log = life.log(SAFE)
    life.model.of(SAFE).retires = True
    if log.config.delete_policy.action == "archive":
        life.model.kept += [put.data for put in life.model.of(SAFE).puts]
    await life.store.housekeeping.retire_log(log, life.machine.clock.time() + 1e7)
    life.put(SAFE, 100)
    await life.settle()


async def leave_what_a_power_loss_left(life: Life) -> None:
    """Bytes that were never synced to the journal, in a segment, in one of their own, and in a folder of their own."""
    life.open()
    life.put(SAFE, 300, 400)
    await life.settle()
    await life.checkpoint()
    life.put(ALSO, 100)
    await life.settle()
    life.store.abandon()
    await asyncio.sleep(0.1)
    life.machine.crash(power=True)
    life.model.crash(power=True)
    folder = f"{HOME}/{SAFE}"
    stray(life, f"{folder}/{segment_name(0)}", pack(-1, 0, b"leavings of the tail" * 50))
    stray(life, f"{folder}/{segment_name(5000)}", pack(-2, 0, b"leavings of a segment" * 50))
    other = TopicPartition("safe", 9)
    stray(life, f"{HOME}/{other}/{segment_name(0)}", pack(-3, 0, b"leavings of a partition" * 50))
    stray(life, f"{HOME}/{other}/notes", b"of somebody else")


async def leave_another_name(life: Life) -> None:
    """The process is killed; somebody writes a name in another way."""
    life.open()
    life.put(SAFE, 2500)
    await life.settle()
    await life.checkpoint()
    rename(life, f"{HOME}/{SAFE}/{segment_name(0)}", f"{HOME}/{SAFE}/0.meta")


async def find_other_names(life: Life) -> None:
    """The original takes `7.meta` too."""
    life.open()
    life.put(SAFE, 2500)
    life.put(SAFE, 100)
    await life.settle()
    await life.close()
    for base in (0, 2500):
        rename(life, f"{HOME}/{SAFE}/{segment_name(base)}", f"{HOME}/{SAFE}/{base}.meta")
    life.open()
    life.put(SAFE, 200)
    await life.settle()
    await life.close()


async def give_up_the_journal(life: Life) -> None:
    """A person lets the files have the last word; what only the journal has is kept aside."""
    life.open()
    life.put(SAFE, 300)
    await life.settle()
    await life.close()
    life.open()
    life.put(SAFE, 60)  # the first round of its file: whoever takes that file writes over it
    await life.settle()
    life.store.abandon()
    await asyncio.sleep(0.1)
    given_up = life.model.of(SAFE).puts[-1]
    given_up.acked = given_up.durable = False
    doctor.keep_files(life.settings, life.machine.disk)
    life.model.kept.append(given_up.data)  # not before: a command that was interrupted is to be given again
    life.model.of(SAFE).puts.remove(given_up)
    life.when_stopped()
    life.open()
    life.put(SAFE, 200)
    await life.settle()


async def sync_many_files_at_once(life: Life) -> None:
    """So many files are synced with one call, new ones, and in a folder that is new."""
    life.open()
    with patch.object(housekeeping, "_MANY_FILES", 1):
        for number in range(3):
            for partition in range(3):
                life.put(TopicPartition("safe", partition), 900, 900)
            life.put(FAST, 300 * number)
            await life.settle()
            await life.checkpoint()
    life.put(SAFE, 100)
    await life.settle()


async def sync_behind_the_scenes(life: Life) -> None:
    """Topics that do not wait for the disk are synced after so many messages, or so much time."""
    life.open()
    for size in (300, 6000, 200):
        life.put(FAST, size)
        await life.settle()
        life.store.sync_now()
        while life.store.journal.durable < life.store.journal.sequence:
            await asyncio.sleep(0.001)
        life.model.synced()


async def send_batches(life: Life) -> None:
    """Stamped batches of two producers, small ones and large ones, through rolls, checkpoints and a start."""
    for epoch in (0, 1):
        life.open()
        for sizes in ((30, 30), (900, 1200, 10), (1500, 1800), (100,)):
            for key, producer in ((SAFE, 5), (FAST, 5), (SAFE, 6)):
                life.batch(key, producer, *sizes, epoch=epoch)
            await asyncio.sleep(0.0005)
        await life.settle()
        checkpoint = asyncio.ensure_future(life.checkpoint())
        life.batch(SAFE, 5, 70, 3000)
        await checkpoint
        await life.settle()
        await life.cut(SAFE, life.model.of(SAFE).puts[-2].offset)
        life.batch(SAFE, 5, 200, 300)
        await life.settle()
        await life.close()


async def copy_batches(life: Life) -> None:
    """Another broker's batches with their stamps, small ones and large ones, through its segments, ends and a start."""
    log = life.open().create(SAFE)
    for sizes in ((30, 30), (1500, 1800)):
        base = log.end
        life.batch(SAFE, 5, *sizes, base=base)
        life.batch(SAFE, 6, *sizes, base=base)
        await asyncio.sleep(0.0005)
    checkpoint = asyncio.ensure_future(life.checkpoint())
    life.batch(SAFE, 5, 70, 50, base=log.end)
    await checkpoint
    await life.settle()
    await life.set_aside(SAFE, life.model.of(SAFE).puts[-1].offset)
    begun = life.copy(SAFE, log.base, 60)[0]
    await life.settle()
    life.copy(SAFE, log.base, 50, 3200, of=(7, begun))
    life.batch(SAFE, 5, 40, base=log.base)
    await life.settle()
    await life.close()
    life.open()
    life.batch(SAFE, 6, 40, base=life.log(SAFE).base)
    await life.settle()


async def refuse_for_want_of_room(life: Life) -> None:
    """A round that could not be written is none; the next one takes its place."""
    life.open()
    life.put(SAFE, 100)
    await life.settle()
    for key in (SAFE, FAST):
        life.machine.disk.fail(
            lambda call: call.name == "pwrite" and "/journal/" in call.path, OSError(ENOSPC, "full"), times=1
        )
        life.put(key, 700)
        await life.settle()
        life.put(FAST, 700)
        life.put(SAFE, 90)
        await life.settle()


@contextmanager
def unwatched(life: Life) -> Iterator[SimDisk]:
    """Give the disk to somebody else, who owes nobody anything if the power goes meanwhile."""
    disk = life.machine.disk
    watchers = disk.when_changed[:]
    disk.when_changed.clear()
    yield disk
    disk.when_changed.extend(watchers)


def stray(life: Life, path: str, content: bytes) -> None:
    """Write something behind a file, durably; whoever takes it away from there must keep it."""
    folder = path.rpartition("/")[0]
    with unwatched(life) as disk:
        disk.make_dir(folder)
        disk.sync_dir(HOME)
        fd = disk.open(path, write=True, create=True)
        disk.pwrite(fd, content, disk.size(fd))
        disk.fdatasync(fd)
        disk.sync_dir(folder)
        disk.close(fd)
    life.model.kept.append(content)


def rename(life: Life, source: str, target: str) -> None:
    """Rename durably."""
    with unwatched(life) as disk:
        disk.rename(source, target)
        disk.sync_dir(target.rpartition("/")[0])


def other_place(settings: BrokerConfig) -> BrokerConfig:
    """Return settings whose second topic has a data path of its own."""
    return replace(settings, topics=tuple(replace(topic, data_path=ELSEWHERE) for topic in settings.topics))


async def copy_and_set_aside(life: Life) -> None:
    """Another broker's segments, by the journal and as large runs; an end that is not the master's; another log."""
    life.open()
    for base, *sizes in ((0, 700, 800, 900), (2400, 3000, 300), (2400, 400, 50), (6150, 3100)):
        life.copy(SAFE, base, *sizes)
    await life.settle()
    await life.set_aside(SAFE, 5400)
    life.copy(SAFE, 2400, 500)
    life.copy(SAFE, 5900, 600)
    await life.settle()
    await life.checkpoint()
    await life.move_aside(SAFE)
    life.copy(SAFE, 0, 300)
    await life.settle()
    await life.move_aside(SAFE)


def archiving(*, compress: bool) -> BrokerConfig:
    """Return settings of topics whose old segments are archived."""
    policy = DeletePolicy(action="archive", compress=compress)
    return config(defaults=replace(config().defaults, delete_policy=policy))


SCENES: Final[dict[str, Scene]] = {
    **{name: Scene(config(), (course,)) for name, course in RULES.items()},
    "a cut that was not synced": Scene(config(), (kill_after_a_cut, put_into_the_next_segment)),
    "segments cut away": Scene(config(), (kill_after_a_cut_of_segments, put_into_the_next_segment)),
    "segments cut away, and then a stop": Scene(config(), (kill_after_a_cut_of_segments, start_and_stop)),
    "what another broker did not sync": Scene(config(), (leave_to_another_broker, take_over)),
    "new files of another broker": Scene(config(), (leave_new_files_to_another_broker, take_over)),
    "a file cut short": Scene(config(), (leave_a_file_cut_short,)),
    "a torn end": Scene(config(), (leave_a_torn_end,)),
    "a drop that was not synced": Scene(other_place(config()), (kill_after_a_drop, start_and_stop)),
    "retention": Scene(config(), (retire_segments,)),
    "archives": Scene(archiving(compress=False), (retire_segments,)),
    "zipped archives": Scene(archiving(compress=True), (retire_segments,)),
    "what a power loss left": Scene(config(), (leave_what_a_power_loss_left, take_over)),
    "what a power loss left, and then a stop": Scene(config(), (leave_what_a_power_loss_left, start_and_stop)),
    "what a power loss left, and then a segment": Scene(config(), (leave_what_a_power_loss_left, roll_on)),
    "another name after a kill": Scene(config(), (leave_another_name, start_and_stop)),
    "other names": Scene(config(), (find_other_names,)),
    "the journal given up": Scene(config(), (give_up_the_journal,)),
    "many files": Scene(other_place(config()), (sync_many_files_at_once,)),
    "sync behind the scenes": Scene(config(), (sync_behind_the_scenes,)),
    "batches": Scene(config(), (send_batches,)),
    "copies": Scene(config(), (copy_and_set_aside,)),
    "copied batches": Scene(config(), (copy_batches,)),
    "no room": Scene(config(), (refuse_for_want_of_room,)),
}
