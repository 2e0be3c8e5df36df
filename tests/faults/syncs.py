"""Where the store makes things durable: every place in its source that names a sync, and the ways that lead there.

A place is named by its module, its function, and what it calls there ("store._make_dirs: sync_dir"); a second such call
in the function is "sync_dir 2". A way is a place with the functions of the store that led there, the nearest first.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import metaq.store

SYNCS: Final = ("fdatasync", "pwrite_durable", "sync_dir", "sync_all")  # of ports.Files
FOLDER: Final = Path(metaq.store.__path__[0])
_DEPTH: Final = 2  # functions of a way, besides the place's own


class Place(NamedTuple):
    """One use of a sync; `first` and `last` are the lines of the statement it stands in."""

    module: str
    function: str
    call: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.module}.{self.function}: {self.call}"


def places_in(module: str, source: str) -> Iterator[Place]:
    """Yield the places of a module, in order."""
    counts: Counter[tuple[str, str]] = Counter()
    for function, statement, name in _uses(ast.parse(source), ""):
        assert statement.end_lineno is not None
        counts[function, name] += 1
        number = counts[function, name]
        yield Place(
            module, function, name if number == 1 else f"{name} {number}", statement.lineno, statement.end_lineno
        )


def _uses(node: ast.AST, function: str, statement: ast.stmt | None = None) -> Iterator[tuple[str, ast.stmt, str]]:
    for child in ast.iter_child_nodes(node):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{function}.{child.name}".lstrip(".")
        if isinstance(child, ast.Attribute) and child.attr in SYNCS:
            assert statement is not None, "a sync outside of all statements"
            yield inside, statement, child.attr
        yield from _uses(child, inside, child if isinstance(child, ast.stmt) else statement)


def all_places() -> list[Place]:
    """Return the places of all modules of the store."""
    return [place for path in sorted(FOLDER.glob("*.py")) for place in places_in(path.stem, path.read_text("utf-8"))]


class Ways:
    """Tells where a sync that is being done comes from."""

    def __init__(self) -> None:
        self._places: dict[str, list[Place]] = {}
        for place in all_places():
            self._places.setdefault(place.module, []).append(place)

    def here(self) -> tuple[Place, str] | None:
        """Return the place and the way of the sync that the simulated disk does now; None: it is not the store's.

        Raises AssertionError if the store does it in a place that is not known.
        """
        frames = list(_frames_of_the_store())
        if not frames:
            return None
        for depth, frame in enumerate(frames):
            place = self._at(frame)
            if place is not None:
                callers = [each.f_code.co_name for each in frames[depth + 1 : depth + 1 + _DEPTH]]
                return place, " < ".join([str(place), *callers])
        raise AssertionError(f"a sync in {frames[0].f_code.co_qualname} that no source shows")

    def _at(self, frame: FrameType) -> Place | None:
        for place in self._places.get(Path(frame.f_code.co_filename).stem, ()):
            if place.first <= frame.f_lineno <= place.last:
                return place
        return None


def _frames_of_the_store() -> Iterator[FrameType]:
    """Yield the frames of the store that led to here, the innermost first; those of others in between end it."""
    frame: FrameType | None = sys._getframe()
    seen = False
    while frame is not None:
        ours = Path(frame.f_code.co_filename).parent == FOLDER
        if ours:
            yield frame
        elif seen:
            return
        seen = seen or ours
        frame = frame.f_back
