"""A loss of power behind every single operation of a course: the disk and what is known of it are copied there.

cuts = Cuts(life)                      # from here on
world.run(course(life))
cuts.check(seed)                       # each copy loses its power, is opened, and must hold what it must
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from metaq.config.model import BrokerConfig
from tests.simulation.disk import Operation, SimDisk
from tests.simulation.world import World
from tests.unit.store.course import Course, Life, Model, check_kept, check_stopped, crash, recover, start_machine

Phases = tuple[Course, ...]  # processes one after the other, each but the last ended by a kill


@dataclass(frozen=True, slots=True)
class Scene:
    """What processes do on a machine, one after the other; each but the last is killed at its end."""

    settings: BrokerConfig
    phases: Phases


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment. `stopped`: the store was closed in order, so that any broker may go on."""

    operation: str
    disk: SimDisk
    model: bytes
    stopped: bool
    settings: BrokerConfig

    def check(self, seed: int, *, power: bool = True) -> None:
        """Cut the power (or end the process), and see that nothing is missing that must not be."""
        model: Model = pickle.loads(self.model)
        with World(seed) as world:
            machine = world.machine(found=self.disk)
            crash(machine, model, power=power)
            if self.stopped:
                check_stopped(machine.disk, model)
            check_kept(machine.disk, model)
            recover(world, Life(machine, model, self.settings))
            check_kept(machine.disk, model, stopped=True)


@dataclass(slots=True, eq=False)
class Cuts:
    """Moments of a life that are not checked yet. `wanted` says whether one is to be kept."""

    life: Life
    wanted: Callable[[], bool] = lambda: True
    moments: list[Cut] = field(default_factory=list)
    checked: int = 0

    def __post_init__(self) -> None:
        self.life.machine.disk.when_changed.append(self._take)
        self.life.when_stopped = lambda: self._take("the stop in order", stopped=True)

    def _take(self, operation: Operation | str, *, stopped: bool = False) -> None:
        if self.wanted():
            model, settings = pickle.dumps(self.life.model), self.life.settings
            disk = self.life.machine.disk.fork(Random(len(self.moments)))
            self.moments.append(Cut(str(operation), disk, model, stopped, settings))

    def check(self, seed: int, draws: int = 1, *, kills: int = 0) -> None:
        """Check each moment, so many times; then they are forgotten. An error names the moment.

        `kills`: every so many moments the process is ended there too, while the power stays.
        """
        moments, self.moments = self.moments, []
        for number, moment in enumerate(moments, self.checked):
            killed = [False] if kills and not number % kills else []
            for draw, power in enumerate([True] * draws + killed):
                try:
                    moment.check(seed * 1009 + number * 31 + draw, power=power)
                except BaseException as exc:
                    exc.add_note(f"ended after {moment.operation}, number {number}, {seed=}, {draw=}, {power=}")
                    raise
        self.checked += len(moments)


def live(world: World, scene: Scene, prepare: Callable[[Life], Cuts]) -> Cuts:
    """Live through a scene to its end; return the moments of it."""
    life = Life(start_machine(world), Model(), scene.settings)
    cuts = prepare(life)
    for number, phase in enumerate(scene.phases):
        if number:
            crash(life.machine, life.model, power=False)
        world.run(phase(life))
    return cuts
