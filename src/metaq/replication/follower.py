"""Copies the partitions of a master, as long as it runs: one task for the data, a few that compare what is there.

follow      which master, which partitions
_meet       a link to it; whenever that is lost, every end is compared again before anything is appended
_take       answers → Copy → store; who had nothing is asked again later, or waits at the master
_ask        partitions whose turn it is → questions, as many as memory and the store have room for
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Final

from metaq.errors import ClientError, CorruptMessage, ProtocolError, RequestError, StoreError
from metaq.model import BrokerAddress, TopicPartition
from metaq.net.link import Link
from metaq.ports import World
from metaq.replication.appending import Appender
from metaq.replication.checking import Checker
from metaq.replication.course import Course, Queue
from metaq.replication.ends import Ends
from metaq.replication.options import FollowerOptions
from metaq.replication.partition import Kind
from metaq.replication.polling import Polling
from metaq.replication.questions import Found, Question
from metaq.replication.status import FollowerStatus, PartitionStatus, State
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

_CHECKERS: Final = 16  # partitions whose ends are compared at a time
_CROWDED: Final = 0.005  # seconds between two looks whether the store has room again


class Follower:
    """Keeps our logs equal to those of a master. `run` does the work; `follow` may be called at any time."""

    def __init__(self, store: MessageStore, world: World, options: FollowerOptions) -> None:
        self._store = store
        self._world = world
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._master: BrokerAddress | None = None
        self._link: Link | None = None
        self._courses: dict[TopicPartition, Course] = {}
        self._ready = Queue()  # to be asked for
        self._to_check: asyncio.Queue[Course] = asyncio.Queue()
        self._due: list[tuple[float, int, Course]] = []
        self._numbers = count()
        self._answers: deque[Question] = deque()
        self._news = asyncio.Event()
        self._lost = False
        self._leaving = False  # the master has left the registry
        self._session = 0  # counts connections that were lost
        self._checker = Checker(store, options.group, options.answer)
        self._appender = Appender(store, options.appeared, self._settled)
        self._polling = Polling(options, self._ready, self._answered)
        self._ends = Ends(options, self._news.set, self._shorter)

    # -- for whoever runs it

    def follow(self, master: BrokerAddress | None, partitions: Mapping[str, int]) -> None:
        """Copy the partitions 0 … n-1 of each topic from this master from now on; None: there is none at present.

        Partitions that are not named any more are left as they are.
        """
        self._master = master
        self._leaving = False
        wanted = {TopicPartition(topic, n) for topic, number in partitions.items() for n in range(number)}
        for key in [key for key in self._courses if key not in wanted]:
            course = self._courses.pop(key)
            course.wanted = False
        for key in wanted - self._courses.keys():
            course = self._courses[key] = Course(key)
            course.log = self._store.get(key)
            self._ready.add(course)
        self._news.set()

    def follow_out(self) -> None:
        """The master has left the registry: copy what it still takes, for as long as the connection to it lasts."""
        self._leaving = True
        if self._link is None or not self._link.is_open:
            self._master = None
        self._news.set()

    def status(self) -> FollowerStatus:
        """Return how it goes, by topic and partition."""
        return replace(self.overview(), partitions=tuple(self.partitions()))

    def overview(self) -> FollowerStatus:
        """Return how it goes, without partitions."""
        link = self._link
        error = None if link is None or link.is_open else link.reason
        return FollowerStatus(self._master, link is not None and link.is_open, error, ())

    def partitions(self) -> Iterator[PartitionStatus]:
        """Yield how it goes, by topic and partition. Some may be taken now and others later."""
        keys = list(self._courses)
        heapq.heapify(keys)  # sorting 50,000 takes 30 ms in one piece
        while keys:
            if (course := self._courses.get(heapq.heappop(keys))) is not None:
                yield course.status(self._loop.time())

    async def run(self) -> None:
        """Copy until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_CHECKERS):
                    group.create_task(self._check_on())
                await self._copy_on()
        finally:
            await self._leave()

    # -- one task for the data

    async def _copy_on(self) -> None:
        while True:
            self._news.clear()
            await self._meet()
            self._take()
            due = self._ask()
            timer = None if due is None else self._loop.call_at(due, self._news.set)
            await self._news.wait()
            if timer is not None:
                timer.cancel()

    async def _meet(self) -> None:
        """Have a link to the present master."""
        if self._link is not None and self._link.address != self._master:
            await self._leave()
        if self._link is None and self._master is not None:
            self._link = Link(
                self._world.network,
                self._master,
                random=self._world.random,
                options=self._options.link,
                on_change=self._changed,
            )
            self._link.start()
        if self._lost:
            self._lost = False
            self._start_over()

    async def _leave(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()
            self._lost = True
            self._session += 1

    def _changed(self, link: Link) -> None:
        if not link.is_open:
            self._lost = True
            self._session += 1
            if self._leaving:
                self._master = None
        self._news.set()

    def _start_over(self) -> None:
        """The connection is lost: another master may come, or this one with less. Each end is checked first."""
        now = self._loop.time()
        for course in self._courses.values():
            if not course.busy:
                course.halt(State.WAITING, course.error, now)
                self._ready.add(course)

    def _answered(self, question: Question) -> None:
        self._answers.append(question)
        self._news.set()

    def _settled(self, course: Course, error: Exception | None) -> None:
        """What was appended is safe; or it is lost, and our log ends where it did before."""
        if error is not None:
            self._stop(course, f"cannot append: {error}")
            self._news.set()
        elif course.wanted and course.copy.may_ask() and not course.queued:
            self._ready.add(course)
            self._news.set()

    def _stop(self, course: Course, error: str, *, quietly: bool = False) -> None:
        """Leave a partition alone for a while."""
        if error != course.error and not quietly:
            log_.warning("%s: copying stops, it is tried again: %s", course.key, error)
        now = self._loop.time()
        course.halt(State.STOPPED, error, now)
        self._later(course, self._options.retry * min(1 << min(course.refused, 4), 12))
        course.refused += 1

    def _shorter(self, course: Course) -> None:
        """The master's log ends before ours does: compare."""
        if course.checked:
            course.halt(State.WAITING, None, self._loop.time())
            self._ready.add(course)

    def _later(self, course: Course, delay: float) -> None:
        heapq.heappush(self._due, (self._loop.time() + delay, next(self._numbers), course))

    # -- answers

    def _take(self) -> None:
        """Take the answers that came."""
        while self._answers:
            question = self._answers.popleft()
            self._polling.over(question)
            if question.link is not self._link:
                continue
            if question.error is not None:
                self._unanswered(question, question.error)
                continue
            try:
                found = list(question.found())
            except ProtocolError as exc:
                self._unanswered(question, exc)
                continue
            if question.is_full:
                self._polling.hurry()
            for each in found:
                self._take_one(each)

    def _unanswered(self, question: Question, error: ClientError | ProtocolError) -> None:
        """Where the connection is lost all begins anew; else what was asked for is asked for again, later."""
        open_still = [course for course, ask in question.lines if ask.turn == course.copy.turn and course.checked]
        if open_still and not self._lost:
            log_.warning("%s: no answer that could be used, asked again later: %s", question.link.address, error)
            for course in open_still:
                self._stop(course, str(error), quietly=True)

    def _take_one(self, found: Found) -> None:
        course, ask = found.line
        copy = course.copy
        if ask.turn != copy.turn or not course.checked:
            return
        now = self._loop.time()
        if found.error is not None:
            self._stop(course, found.error)
        elif found.moved is not None:
            self._moved(course, found.moved)
        elif found.data:
            before = copy.position
            if self._append(course, found, now):
                if copy.position > before:
                    course.came(now)
                self._again(course, was_idle=ask.kind is Kind.PROBE and copy.position == before)
        else:
            copy.nothing(ask)
            if found.at_end and copy.open == 0:
                course.current()
            self._again(course, was_idle=found.at_end)

    def _append(self, course: Course, found: Found, now: float) -> bool:
        broken: str | None = None
        try:
            runs = course.copy.take(found.line.ask, found.data, found.base, found.stamps)
        except CorruptMessage as exc:
            broken, runs = str(exc.args[0]), exc.args[1]
        try:
            for records in runs:
                self._appender.append(course, records)
                self._polling.came += records.messages
        except (StoreError, RequestError) as exc:
            self._stop(course, f"cannot append: {exc}")
            return False
        if broken is not None:
            self._refuse(course, f"what the master sends does not follow on our log: {broken}")
            return False
        if runs:
            course.refused = 0
        return True

    def _refuse(self, course: Course, why: str) -> None:
        """Never append what is no record. Perhaps the log there is another one now: compare, then try again."""
        if not course.refused:
            course.halt(State.WAITING, None, self._loop.time())
            course.refused = 1
            self._ready.add(course)
        else:
            self._stop(course, why)

    def _moved(self, course: Course, offset: int) -> None:
        """The master has nothing where our log ends, but from `offset` on."""
        if course.log is None and course.end != offset:
            course.begin(self._loop.time(), offset, has_records=False)
            self._ready.add(course)
        else:
            self._refuse(course, f"the master has nothing at {course.end}, and goes on at {offset}")

    def _again(self, course: Course, *, was_idle: bool = False) -> None:
        """Ask for more of a partition, now or later."""
        if not course.wanted or not course.copy.may_ask():
            return
        if was_idle and self._link is not None and not self._polling.can_wait(self._link):
            longest = self._options.last_delay if self._leaving else self._options.max_delay
            pause = course.pause(max(longest, len(self._courses) * self._polling.cost))
            self._later(course, pause)
        else:
            self._ready.add(course)

    # -- questions

    def _ask(self) -> float | None:
        """Send what is due; return when to look again, if nothing happens before."""
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            course = heapq.heappop(self._due)[2]
            if course.wanted:
                self._ready.add(course)
        due = self._due[0][0] if self._due else None
        link = self._link
        if link is None or not link.is_open:
            return due
        if self._store.congested():
            return now + _CROWDED if due is None else min(due, now + _CROWDED)
        again = self._polling.ask(link, now, self._admit)
        looks = self._ends.ask(link, now, self._courses)
        return min(time for time in (due, again, looks) if time is not None)

    def _admit(self, course: Course) -> bool:
        """Say whether to ask for a partition; if not, it is seen to."""
        if not course.wanted:
            return False
        if course.uncommitted > self._options.memory // 4:
            return False  # `_settled` has it asked for again
        if course.checked:
            return course.copy.may_ask()
        if course.uncommitted == 0:
            if self._options.accepts(course.key):
                course.state = State.COMPARING
                self._to_check.put_nowait(course)
            else:
                self._missing(course)
        return False

    def _missing(self, course: Course) -> None:
        """Our configuration has not got it, yet."""
        error = _not_here(course.key)
        if error != course.error:
            log_.warning("%s: it is not copied: %s", course.key, error)
        course.halt(State.STOPPED, error, self._loop.time())
        self._later(course, self._options.look)

    # -- ends that are compared

    async def _check_on(self) -> None:
        while True:
            course = await self._to_check.get()
            if course.checked or not course.wanted or course.busy:
                continue
            link = self._link
            if link is None or not link.is_open:
                self._ready.add(course)
                continue
            course.busy = True
            try:
                await self._check(course, link)
            except (ClientError, StoreError, OSError) as exc:
                if link is self._link and link.is_open:
                    self._stop(course, str(exc))
                else:
                    course.halt(State.WAITING, course.error, self._loop.time())
                    self._ready.add(course)
            finally:
                course.busy = False
            self._news.set()

    async def _check(self, course: Course, link: Link) -> None:
        session = self._session

        def differs() -> None:
            course.state = State.REPAIRING

        met = await self._checker.meet(link, course.key, differs)
        course.log = self._store.get(course.key)
        if met is not None and met.repaired is not None:
            course.repaired = met.repaired
        end = met.end if met is not None else course.end if course.log is None else course.log.end
        has_records = course.log is not None and course.log.end > course.log.start
        course.state = State.WAITING
        if link is self._link and link.is_open and session == self._session:
            course.begin(self._loop.time(), end, has_records=has_records)
        self._ready.add(course)


def _not_here(key: TopicPartition) -> str:
    return (
        f"the master has {key}, our server.ini has not: raise numPartitions or add [topic={key.topic}] there"
        " and reload, or set autoSyncMasterConfig=true"
    )
