"""The input of the demo: the standard library of the running Python, line by line."""

import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(slots=True)
class Library:
    """The modules of the standard library, line by line; `starts` has the number of a module's first line."""

    folder: str
    lines: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)
    size: int = 0

    @classmethod
    def read(cls, most: int | None) -> Self:
        """Read the library of the running Python; at most so many modules, if a number is given."""
        library = cls(sysconfig.get_path("stdlib"))
        for path in list(modules(library.folder))[:most]:
            name = os.path.relpath(path, library.folder)
            data = Path(path).read_bytes()
            library.starts[name] = len(library.lines)
            library.lines += data.removesuffix(b"\n").split(b"\n")
            library.names.append(name)
            library.size += len(data)
        return library

    def messages(self) -> Iterator[tuple[bytes, str]]:
        """Yield each line and its attribute: module and line number."""
        ends = [*(self.starts[name] for name in self.names[1:]), len(self.lines)]
        for name, end in zip(self.names, ends, strict=True):
            start = self.starts[name]
            for number in range(start, end):
                yield self.lines[number], f"{name}:{number - start + 1}"

    def number(self, attribute: str) -> int:
        """Return which line an attribute stands for, counted through all modules."""
        name, _, line = attribute.rpartition(":")
        return self.starts[name] + int(line) - 1


def modules(folder: str) -> Iterator[str]:
    """Yield the paths of all modules, what was installed beside them left out."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        yield from (os.path.join(place, name) for name in sorted(files) if name.endswith(".py"))
