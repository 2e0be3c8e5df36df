"""`metaq groups list|show|lag|reset|skip|copy`: groups of consumers, how far they are, putting them somewhere else."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import ClassVar, TypeVar

import click

from metaq.admin.copying import Copy, Copying
from metaq.admin.groups import Group, GroupError, Groups, Move, Part, To
from metaq.cli.cluster import Cluster, opened
from metaq.cli.commands import Commands, chosen_url, json_option, url_option
from metaq.cli.output import emit, note, say
from metaq.cli.tables import table
from metaq.client.offsets import StoredOffsets, Surroundings, ZooKeeperOffsets, make_store
from metaq.cluster.znodes import Position
from metaq.net.loop import run

F = TypeVar("F", bound=Callable[..., object])


class GroupCommands(Commands):
    """The words after `metaq groups`."""

    sources: ClassVar[Mapping[str, str]] = {
        name: f"metaq.cli.groups:{name}_" for name in ("list", "show", "lag", "reset", "skip", "copy")
    }


@click.group(cls=GroupCommands)
def groups() -> None:
    """Groups of consumers: who is in them, and how far they are."""


class ToType(click.ParamType[To]):
    """earliest, latest, an offset or a time."""

    name = "to"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> To:
        """Return what `Groups.plan` takes."""
        match str(value):
            case "earliest":
                return "earliest"
            case "latest":
                return "latest"
            case text if text.isascii() and text.isdigit():
                return int(text)
            case text:
                try:
                    return datetime.fromisoformat(text)
                except ValueError:
                    problem = f"{value!r} is not earliest, latest, an offset or a time like 2026-01-31T12:00"
                    raise click.BadParameter(problem, ctx, param) from None


def store_option(command: F) -> F:
    """Add `--offsets`."""
    return click.option(
        "--offsets",
        "store",
        metavar="STORE",
        help="Where the group keeps its offsets: file:PATH or an URL of SQLAlchemy.  [default: ZooKeeper]",
    )(command)


def move_options(command: F) -> F:
    """Add what `reset` and `skip` have in common."""
    for option in (
        click.option("--force", is_flag=True, help="Even while members own the partitions, or if the group is new."),
        click.option("--dry-run", is_flag=True, help="Only show what would be done."),
        click.option("--partition", metavar="P", help="<brokerId>-<number>.  [default: all of the topic]"),
        click.option("--topic", required=True, metavar="TOPIC"),
    ):
        command = option(command)
    return command


@click.command("list")
@store_option
@url_option
@json_option
def list_(store: str | None, as_json: bool) -> None:
    """List all groups: members, topics, and how many bytes are stored behind their offsets."""

    async def read() -> list[Group]:
        async with looking(store) as found:
            return await found.all()

    known = run(read())
    if as_json:
        for group in known:
            emit({"group": group.name, "members": len(group.members), "topics": group.topics, "lag": group.lag})
        return
    rows = [(g.name, len(g.members), ",".join(g.topics) or "-", shown(g.lag)) for g in known]
    table(("GROUP", "MEMBERS", "TOPICS", "LAG"), rows)


@click.command("show")
@click.argument("group")
@store_option
@url_option
@json_option
def show_(group: str, store: str | None, as_json: bool) -> None:
    """Show the members of GROUP, and for each partition its owner, the stored offset and the end of the log."""
    found = run(read_group(group, None, store))
    if as_json:
        members = [{"id": name, "topics": list(topics)} for name, topics in found.members.items()]
        emit({"group": group, "members": members, "lag": found.lag, "partitions": list(map(describe, found.parts))})
        return
    if found.members:
        table(("MEMBER", "TOPICS"), [(name, ",".join(topics) or "-") for name, topics in found.members.items()])
    else:
        say("no members")
    say("")
    rows = [
        (p.place.topic, p.place.partition, shown(p.owner), offset(p), end(p), shown(p.lag), p.note) for p in found.parts
    ]
    table(("TOPIC", "PARTITION", "OWNER", "STORED", "END", "LAG", "NOTE"), rows)


@click.command("lag")
@click.argument("group")
@click.option("--topic", metavar="TOPIC", help="Only this one.")
@store_option
@url_option
@json_option
def lag_(group: str, topic: str | None, store: str | None, as_json: bool) -> None:
    """Show how many bytes GROUP has still to read, by partition and in all."""
    found = run(read_group(group, topic, store))
    if as_json:
        emit({"group": group, "lag": found.lag, "partitions": list(map(describe, found.parts))})
        return
    rows = [(p.place.topic, p.place.partition, offset(p), end(p), shown(p.lag), p.note) for p in found.parts]
    table(("TOPIC", "PARTITION", "STORED", "END", "LAG", "NOTE"), [*rows, ("total", "", "", "", shown(found.lag), "")])


@click.command("reset")
@click.argument("group")
@move_options
@click.option(
    "--to",
    type=ToType(),
    required=True,
    metavar="earliest|latest|OFFSET|TIME",
    help="An offset must be that of a message, or the end. A time is written as 2026-01-31T12:00.",
)
@store_option
@url_option
@json_option
def reset_(group: str, to: To, as_json: bool, **options: str | bool | None) -> None:
    """Let GROUP go on somewhere else in a topic. Its members must have ended."""
    move(group, to, as_json, options)


@click.command("skip")
@click.argument("group")
@move_options
@store_option
@url_option
@json_option
def skip_(group: str, as_json: bool, **options: str | bool | None) -> None:
    """Let GROUP pass over all that a topic holds now. Its members must have ended."""
    move(group, "latest", as_json, options)


def move(group: str, to: To, as_json: bool, options: Mapping[str, str | bool | None]) -> None:
    """Carry out a reset and say what was done."""
    topic, partition, store = (text(options[name]) for name in ("topic", "partition", "store"))
    dry_run = bool(options["dry_run"])

    async def work() -> list[Move]:
        async with looking(store) as found:
            moves = await found.plan(group, topic or "", partition, to, force=bool(options["force"]))
            if not dry_run:
                await found.apply(group, moves)
            return moves

    report(run(work()), dry_run, as_json)


@click.command("copy")
@click.argument("group")
@click.option(
    "--to-root", required=True, metavar="ROOT", help="As /read-slave2/meta: that of a slave that is read from."
)
@click.option("--from-root", metavar="ROOT", help="[default: that of the URL]")
@click.option("--topic", metavar="TOPIC", help="Only this one.")
@click.option("--force", is_flag=True, help="Even while members own partitions there, or no broker is registered.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@url_option
@json_option
def copy_(group: str, to_root: str, from_root: str | None, as_json: bool, **options: str | bool | None) -> None:
    """Carry the offsets of GROUP to another root of the same ZooKeeper: it goes on there where it is here.

    Its members must have ended here, or what they read afterwards comes again there.
    """
    dry_run = bool(options["dry_run"])

    async def work() -> tuple[list[Copy], list[str]]:
        async with opened(chosen_url()) as cluster:
            if cluster.tree is None:
                raise GroupError("roots are those of ZooKeeper: name the cluster as zk://host:port[/root]")
            copying = Copying(cluster.tree.registry, from_root or cluster.tree.root, to_root)
            copies = await copying.plan(group, text(options["topic"]), force=bool(options["force"]))
            if not dry_run:
                await copying.apply(group, copies)
            return copies, await copying.members(group)

    copies, members = run(work())
    report([Move(each.place, each.before, each.position.offset) for each in copies], dry_run, as_json)
    if members:
        note(f"group {group} still has members, as {members[0]}: what they read from now on comes again there")


def report(moves: Iterable[Move], dry_run: bool, as_json: bool) -> None:
    """Say where a group goes on, partition by partition."""
    if as_json:
        for each in moves:
            values = {"topic": each.place.topic, "partition": str(each.place.partition)}
            emit(values | {"from": number(each.stored), "to": each.to, "written": not dry_run})
        return
    rows = [(m.place.topic, m.place.partition, shown(number(m.stored)), m.to) for m in moves]
    table(("TOPIC", "PARTITION", "FROM", "TO"), rows)
    if dry_run:
        note("nothing was written (--dry-run)")


async def read_group(group: str, topic: str | None, store: str | None) -> Group:
    """Return one group. Raises MetaqError."""
    async with looking(store) as found:
        return await found.group(group, topic)


@contextlib.asynccontextmanager
async def looking(store: str | None) -> AsyncIterator[Groups]:
    """Look at the groups of the cluster that the options name."""
    async with opened(chosen_url()) as cluster:
        kept = offsets_of(cluster, store)
        registry, root = (None, "") if cluster.tree is None else (cluster.tree.registry, cluster.tree.root)
        try:
            yield Groups(registry, root, kept, cluster.mq)
        finally:
            await kept.close()


def offsets_of(cluster: Cluster, store: str | None) -> StoredOffsets:
    """Return the store that is meant. Raises GroupError, ConfigError."""
    if store is None:
        if cluster.tree is None:
            raise GroupError(
                "groups live in ZooKeeper: name the cluster as zk://host:port[/root], or with --offsets where they"
                " keep their offsets"
            )
        return ZooKeeperOffsets(cluster.tree.registry, cluster.tree.root)
    around = (
        Surroundings() if cluster.tree is None else Surroundings(registry=cluster.tree.registry, root=cluster.tree.root)
    )
    made = make_store(store, around)
    assert isinstance(made, StoredOffsets)
    return made


def describe(part: Part) -> dict[str, object]:
    """Return a partition as `--json` shows it."""
    return {
        "topic": part.place.topic,
        "partition": str(part.place.partition),
        "owner": part.owner,
        "stored": number(part.stored),
        "message_id": part.stored.message_id if isinstance(part.stored, Position) else None,
        "first": None if part.bounds is None else part.bounds.first,
        "end": None if part.bounds is None else part.bounds.end,
        "lag": part.lag,
        "note": part.note,
    }


def number(stored: Position | str | None) -> int | str | None:
    """Return the stored offset; a text that means nothing as it is."""
    return stored.offset if isinstance(stored, Position) else stored


def offset(part: Part) -> str:
    """Return the stored offset as a table shows it."""
    return shown(part.stored.offset) if isinstance(part.stored, Position) else "-" if part.stored is None else "?"


def end(part: Part) -> str:
    """Return the end of the log as a table shows it."""
    return shown(None if part.bounds is None else part.bounds.end)


def shown(value: object) -> str:
    """Return a value as a table shows it."""
    return "-" if value is None else str(value)


def text(value: object) -> str | None:
    """Return an option that is a text."""
    return value if isinstance(value, str) else None
