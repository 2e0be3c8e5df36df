"""The samples of a document: its fenced blocks, each with the line it begins on."""

import asyncio
import inspect
import re
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Coroutine
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Sample(NamedTuple):
    """One fenced block of a document. `line` is that of its first line of text."""

    document: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"

    def compile(self) -> CodeType:
        """Return its code, in which await may stand outside functions; tracebacks show the document's lines."""
        source = "\n" * (self.line - 1) + self.text
        code = compile(source, str(self.document), "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert isinstance(code, CodeType)
        return code

    def run(self, names: dict[str, object]) -> None:
        """Run it as a script of its own that knows `names`, and gets those it makes put there too."""
        names.setdefault("__name__", "__main__")
        result = FunctionType(self.compile(), names)()
        if isinstance(result, Coroutine):
            asyncio.run(_awaited(result))


async def _awaited(result: Coroutine[object, object, object]) -> None:
    assert inspect.iscoroutine(result)
    await result


def samples(document: str, language: str = "python") -> list[Sample]:
    """Return the blocks of one language in a document below docs/; AssertionError if there is none."""
    path = DOCS / document
    text = path.read_text(encoding="utf-8")
    found = [
        Sample(path, text.count("\n", 0, match.start(2)) + 1, match[2])
        for match in _BLOCK.finditer(text)
        if match[1] == language
    ]
    assert found, f"{document} has no {language} sample"
    return found
