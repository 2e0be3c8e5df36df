"""No sync of the store is there for nothing: without any one of them, a loss of power breaks a law.

Each place of the source that names a sync, and each way that leads there, is taken out alone; then scenes that come by
there are lived through, and the power is cut behind every operation, until what is left breaks a law.
"""

from functools import cache
from typing import Final

import pytest

from metaq.errors import OffsetMoved, StoreError
from tests.faults.scenes import SCENES
from tests.faults.syncs import Ways, all_places, places_in
from tests.simulation.cuts import Cuts, live
from tests.simulation.world import World
from tests.unit.store.course import Life

PLACES: Final = {str(place): place for place in all_places()}
TRIES: Final = 12  # times a scene is lived through without a sync, each time with other chances
WAYS: Final = Ways()

# Ways without which nothing breaks, and why they are there all the same.
SPARE: Final = {
    "journal.Journal._begin_file: fdatasync < _switch < work": (
        "no round is alone in a new file: the first one that syncs there syncs the header with it; the call is that of"
        " an opening, where it is needed, and costs one sync in a whole file of rounds"
    ),
    "journal.Journal._prepare.work: fdatasync": "for speed: the zeros of the next file are on disk before it is needed",
    "opening.Opening._make_durable: sync_dir < _open_unclean < run": (
        "no round is in a file before its name is synced; but whoever copies a folder and starts on it need not sync,"
        " and it is one call of a recovery"
    ),
}
# Ways that do the same where a rename is whole or not at all, as here and on ext4; POSIX does not promise that.
PAIRS: Final = (
    ("doctor._give_up: sync_dir < keep_files", "doctor._give_up: sync_dir 2 < keep_files"),
    ("aside.Aside.move: sync_dir < remove", "aside.Aside.move: sync_dir 2 < remove"),
)
TWINS: Final = tuple(way for pair in PAIRS for way in pair)

# Scenes to try first, where the shortest ones that come by do not notice.
HINTS: Final = {
    "journal.Journal._begin_file: fdatasync < open < _begin_journal": "a cut that was not synced",
    "opening.Opening._sync_file: fdatasync < _make_durable < _open_unclean": "rule_4_before_the_port_opens",
    "retention.dispose: sync_dir 2 < _dispose": "archives",
}


class Listener:
    """Hears of all syncs of a life, and lets those that came by certain ways do nothing."""

    def __init__(self, life: Life, dead: tuple[str, ...] = ()) -> None:
        self._dead = dead
        self.met: dict[str, str] = {}  # way → place
        self.silenced = 0
        life.machine.disk.syncs = self._hear

    def _hear(self) -> bool:
        here = WAYS.here()
        if here is None:
            return True
        place, way = here
        self.met[way] = str(place)
        self.silenced += way in self._dead
        return way not in self._dead


@cache
def ways() -> dict[str, tuple[str, list[str]]]:
    """Return {way: its place and the scenes that come by it, the most promising first}."""
    found: dict[str, tuple[str, list[tuple[int, str]]]] = {}
    for name, scene in SCENES.items():
        listeners: list[Listener] = []

        def listen(life: Life, into: list[Listener] = listeners) -> Cuts:
            into.append(Listener(life))
            return Cuts(life, wanted=lambda: False)

        with World(1) as world:
            live(world, scene, listen)
            length = len(world.machine().disk.log)
        for way, place in listeners[0].met.items():
            found.setdefault(way, (place, []))[1].append((length, name))
    for way, (_, scenes) in found.items():
        scenes.sort(key=lambda scene: (scene[1] != HINTS.get(way), scene))
    return {way: (place, [name for _, name in scenes]) for way, (place, scenes) in found.items()}


def broken_without(dead: tuple[str, ...], scene: str, seed: int) -> bool:
    """Return whether a law breaks in a scene without the syncs that come by these ways."""
    listeners: list[Listener] = []

    def prepare(life: Life) -> Cuts:
        listeners.append(Listener(life, dead))
        return Cuts(life, wanted=lambda: listeners[0].silenced > 0)

    with World(seed) as world:
        try:
            live(world, SCENES[scene], prepare).check(seed)
        except (AssertionError, StoreError, OffsetMoved):
            return True
    return False


def missed(*dead: str, tries: int = TRIES) -> bool:
    """Search until the loss of these ways is noticed; return whether it is."""
    return any(broken_without(dead, scene, seed) for seed in range(1, tries + 1) for scene in ways()[dead[0]][1])


@pytest.mark.parametrize("place", PLACES)
def test_a_law_breaks_without_this_sync(place: str) -> None:
    leading = [way for way, (where, _) in ways().items() if where == place]
    assert leading, "no scene comes by here: add one to scenes.py"
    needless = [way for way in leading if way not in SPARE and way not in TWINS and not missed(way)]
    assert not needless, "nothing breaks without them: no scene is hard enough, or they are not needed"


@pytest.mark.parametrize("pair", PAIRS)
def test_a_law_breaks_without_either_of_two_that_stand_in_for_each_other(pair: tuple[str, str]) -> None:
    assert missed(*pair)


def test_those_that_are_named_as_spare_are_still_there() -> None:
    assert {*SPARE, *TWINS} <= ways().keys()


@pytest.mark.soak
@pytest.mark.parametrize("way", [*SPARE, *TWINS])
def test_nothing_breaks_without_a_sync_that_is_named_as_spare(way: str) -> None:
    assert not missed(way, tries=100)


@pytest.mark.soak
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_breaks_with_all_syncs(scene: str) -> None:
    for seed in range(1, 200):
        with World(seed) as world:
            live(world, SCENES[scene], Cuts).check(seed, draws=4)


def test_the_source_is_searched_for_all_that_could_be_a_sync() -> None:
    source = """
class A:
    def f(self):
        self.files.sync_dir("/a")
        later = partial(
            self.files.fdatasync, 1)
        def g():
            b.sync_dir("/a"), b.sync_dir("/b")
write = files.pwrite_durable
"""
    found = [(str(place), place.first, place.last) for place in places_in("m", source)]
    assert found == [
        ("m.A.f: sync_dir", 4, 4),
        ("m.A.f: fdatasync", 5, 6),
        ("m.A.f.g: sync_dir", 8, 8),
        ("m.A.f.g: sync_dir 2", 8, 8),
        ("m.: pwrite_durable", 9, 9),
    ]
