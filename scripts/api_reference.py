"""Write the reference of the client as web pages, from its docstrings: `make docs`. pdoc does the work."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pdoc
import pdoc.render

import metaq
import metaq.aio
import metaq.sync

MODULES: Final = ("metaq.sync", "metaq.aio")


def write(folder: Path) -> None:
    """Write one page for plain code, one for asyncio, and an index, into a folder."""
    pdoc.render.configure(docformat="markdown", show_source=False, footer_text=f"metaq {metaq.__version__}")
    pdoc.pdoc(*MODULES, output_directory=folder)


def public() -> list[tuple[ModuleType, str]]:
    """Return all that the pages must show."""
    return [(module, name) for module in (metaq.sync, metaq.aio) for name in module.__all__]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write(target)
    print(f"{target}/index.html")
