"""`metaq server init`: a home for a broker, laid out as that of 1.4.6.2."""

import os
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, NamedTuple, TypedDict, Unpack

import click

from metaq.cli.commands import json_option
from metaq.cli.home import Home
from metaq.cli.output import emit, say
from metaq.config.broker import parse
from metaq.config.model import DEFAULT_PORT
from metaq.config.write import Draft, server_ini

_FOLDERS: Final = ("bin", "conf", "provided", "logs")


class Part(NamedTuple):
    """A file of a home: where, what is in it, and whether it is run."""

    path: Path
    text: str
    executable: bool


class Options(TypedDict):
    """What the file is to say."""

    data: str | None
    port: int
    topics: tuple[str, ...]
    partitions: int
    zookeeper: str


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--data", metavar="DIR", help="Where messages lie.  [default: the folder meta of the user's home]")
@click.option("--port", type=int, default=DEFAULT_PORT, show_default=True)
@click.option("--partitions", type=click.IntRange(min=1), default=1, show_default=True, help="Partitions of a topic.")
@click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="A topic to begin with; may be repeated.")
@click.option(
    "--zookeeper",
    default="localhost:2181",
    show_default=True,
    metavar="HOSTS",
    help="host:port[,host:port…] of ZooKeeper; `none` runs without.",
)
@json_option
def init(directory: str, as_json: bool, **options: Unpack[Options]) -> None:
    """Make a home in DIR. Files that are there already are left as they are."""
    home = Home(Path(directory).absolute())
    draft = Draft(
        data_path=None if options["data"] is None else str(Path(options["data"]).absolute()),
        server_port=options["port"],
        num_partitions=options["partitions"],
        topics=options["topics"] or ("test",),
        zookeeper=None if options["zookeeper"] == "none" else options["zookeeper"],
    )
    text = server_ini(draft)
    parse(text.encode(), str(home.ini))  # a mistake in an option is told before anything is made
    made, kept = lay_out(home, text)
    if as_json:
        emit({"home": str(home.path), "made": made, "kept": kept})
        return
    for word, paths in (("made", made), ("left as it was", kept)):
        for path in paths:
            say(f"{word}: {path}")
    say(f"Edit {home.ini}, then: metaq server start --home {home.path}")


def lay_out(home: Home, ini: str) -> tuple[list[str], list[str]]:
    """Make the folders and files of a home that are missing; return the paths of those made, and of those kept."""
    for folder in _FOLDERS:
        (home.path / folder).mkdir(parents=True, exist_ok=True)
    made: list[str] = []
    kept: list[str] = []
    for part in (Part(home.ini, ini, False), *skeleton(home)):
        (made if write_new(part) else kept).append(str(part.path))
    return made, kept


def skeleton(home: Home) -> Iterator[Part]:
    """Return the files that are the same in every home."""
    root = files("metaq.cli") / "skeleton"
    for folder in ("bin", "conf"):
        for source in sorted((root / folder).iterdir(), key=_name):
            text = source.read_text(encoding="ascii").replace("@PYTHON@", sys.executable)
            yield Part(home.path / folder / source.name, text, source.name == "metaServer.sh")


def _name(source: Traversable) -> str:
    return source.name


def write_new(part: Part) -> bool:
    """Write a file; return False, and leave it alone, if there is one of that name."""
    mode = 0o777 if part.executable else 0o666
    try:
        fd = os.open(part.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    with open(fd, "w", encoding="utf-8") as file:
        file.write(part.text)
    return True
