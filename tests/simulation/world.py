"""A whole world from one seed: machines with disks and clocks, a network between them, virtual time.

with World(seed) as world:
    one = world.machine("10.0.0.1")
    one.disk.crash_at(17)
    with pytest.raises(PowerLoss):
        world.run(serve(one.outside))
    one.crash(power=True)               # what was not synced may be gone; `one.disk` is what the next start finds
    assert world.run(check(one.outside)) == ...
"""

import asyncio
import zlib
from collections.abc import Coroutine
from math import inf
from random import Random
from typing import Final, Self, TypeVar

from metaq import ports

from .disk import PowerLoss, SimDisk
from .loop import SimLoop
from .network import SimHost, SimNetwork
from .threads import SimThreads

T = TypeVar("T")

START: Final = 1_700_000_000.0  # seconds since 1970 on every wall clock when a world begins
GRACE: Final = 1.0  # virtual seconds that cancelled tasks have to end in


class SimClock:
    """`ports.Clock` of one machine: the wall clock can be wrong and be set, the monotonic one cannot."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._began = loop.time()
        self.offset = 0.0  # seconds the wall clock is ahead

    def time(self) -> float:
        return START + self._loop.time() - self._began + self.offset

    def monotonic(self) -> float:
        return self._loop.time()

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back; less than 0: ahead."""
        self.offset -= seconds


class Machine:
    """One host. `disk`, `threads`, `network` and `random` are those of its present process; `crash` replaces them."""

    def __init__(self, world: "World", name: str, *, capacity: int | None = None, found: SimDisk | None = None) -> None:
        """`found`: the disk of another world, a copy of which is this one's."""
        self.name = name
        self.clock = SimClock(world.loop)
        self._world = world
        self._lives = 0
        random = world.random_for(f"{name} disk")
        now = self.clock.time
        self._adopt(found.fork(random, now) if found else SimDisk(random, capacity=capacity, now=now))

    @property
    def outside(self) -> ports.World:
        """All that a process on this machine gets of the world."""
        return ports.World(self.clock, self.random, self.disk, self.threads, self.network)

    def crash(self, *, power: bool = True, stay_down: bool = False) -> None:
        """End the process (`power`: switch the machine off) and make ready for the next.

        Its tasks and timers are not ended, but reach neither disk, threads nor network any more. `stay_down`: the
        network is silent until `start`.
        """
        self.network.end()
        self._world.network.crash(self.name, power=power or stay_down)
        self._adopt(self.disk.crash(power=power))
        if not stay_down:
            self.start()

    def start(self) -> None:
        """Come back on the network."""
        self._world.network.restart(self.name)

    def _adopt(self, disk: SimDisk) -> None:
        self._lives += 1
        self.disk = disk
        self.random = self._world.random_for(f"{self.name} process {self._lives}")
        self.threads = SimThreads(self._world.loop, self._world.random_for(f"{self.name} threads {self._lives}"), disk)
        self.network: SimHost = self._world.network.host(self.name)
        disk.when_dead.append(self._world.note_power_loss)


class World:
    """See the module. One seed, one course of events; `digest` sums it up."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.loop = SimLoop()
        self.random = self.random_for("test")
        self.network = SimNetwork(self.loop, self.random_for("network"))
        self.machines: dict[str, Machine] = {}
        self._wake: asyncio.Future[None] | None = None  # of the present run; done when it has to look
        self._power_lost = False  # a crash_at has struck in it
        self._errors_before = 0  # errors nobody caught up to then

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close()
        if kind is None:
            self._raise_unhandled(len(self.loop.unhandled))

    def random_for(self, use: str) -> Random:
        """Return chance for one use, so that what one part draws does not change what others draw."""
        return Random(f"{self.seed} {use}")

    def machine(self, name: str = "127.0.0.1", *, capacity: int | None = None, found: SimDisk | None = None) -> Machine:
        """Return the machine of this name (its address), which is made when first asked for; see `Machine`.

        `capacity` is in bytes.
        """
        if name not in self.machines:
            self.machines[name] = Machine(self, name, capacity=capacity, found=found)
        return self.machines[name]

    def run(self, coroutine: Coroutine[object, None, T], *, limit: float = 86_400.0, survive: bool = False) -> T:
        """Run until the coroutine is done; return its result.

        Tasks it leaves behind go on in the next `run`; after an error all tasks are cancelled. Raises what the
        coroutine raises; Deadlock; TimeoutError after `limit` virtual seconds; PowerLoss when a `crash_at` of a machine
        strikes, unless `survive`; at the end, as a group, the errors that nobody caught.
        """
        self._errors_before = 0
        self._power_lost = False
        self.loop.stop_at(self.loop.time() + limit)
        try:
            result = self.loop.run_until_complete(self.loop.create_task(self._drive(coroutine, survive)))
        except BaseException as exc:
            self._cancel_all()
            self._raise_unhandled(self._errors_before if isinstance(exc, PowerLoss) else 0)
            self.loop.unhandled.clear()  # they come of this error or of the cancelling
            raise
        self._raise_unhandled(len(self.loop.unhandled))
        return result

    def note_power_loss(self) -> None:
        """A process has met its `crash_at`."""
        if not self._power_lost:
            self._power_lost = True
            self._errors_before = len(self.loop.unhandled)
            self._look()

    def digest(self) -> int:
        """Return a number that two runs share only if the same things happened in them at the same times."""
        lines = [str(self.loop.time()), *self.network.trace]
        lines += [str(operation) for machine in self.machines.values() for operation in machine.disk.log]
        return zlib.crc32("\n".join(lines).encode())

    def close(self) -> None:
        """Cancel what is left and close the loop."""
        if not self.loop.is_closed():
            self._cancel_all()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _drive(self, coroutine: Coroutine[object, None, T], survive: bool) -> T:
        self._wake = self.loop.create_future()
        main = self.loop.create_task(coroutine)
        main.add_done_callback(self._look)
        while not main.done() and (survive or not self._power_lost):
            await self._wake
            self._wake = self.loop.create_future()
        if self._power_lost and not survive:
            raise PowerLoss("a process has met its crash_at")
        return main.result()

    def _look(self, _: object = None) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _cancel_all(self) -> None:
        """Cancel all tasks, in the order they were made, and see them end, or not: those of a dead process may wait."""
        self.loop.stop_at(inf)
        tasks = sorted(asyncio.all_tasks(self.loop), key=lambda task: (len(task.get_name()), task.get_name()))
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=GRACE))
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # seen

    def _raise_unhandled(self, number: int) -> None:
        errors = [error for error in self.loop.unhandled[:number] if not isinstance(error, PowerLoss)]
        self.loop.unhandled.clear()
        if errors:
            raise BaseExceptionGroup("errors that nobody caught", errors)
