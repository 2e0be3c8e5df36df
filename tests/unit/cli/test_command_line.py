"""What the command line takes, what it refuses, and how it ends."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from metaq._version import __version__
from metaq.cli import main as cli
from metaq.cli.main import Root, run
from metaq.cli.server import Server


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("bogus", 2, "metaq: No such command 'bogus'"),
        ("server bogus", 2, "metaq: No such command 'bogus'"),
        ("server run", 2, "metaq: Missing option '-f'"),
        (
            "server run -f x -l -D zk.server.tick=1",
            2,
            "metaq: unknown property 'zk.server.tick'; there are zk.server.po",
        ),
        ("server run -f x -l -D zk.server.tickTime=0", 2, "metaq: -D zk.server.tickTime needs a number above 0"),
        ("server run -f x -D zk.server.tickTime=5", 2, "metaq: -D is for a local registry: add -l"),
        ("server start -D zk.server.tickTime=5", 2, "metaq: -D is for a local registry: start local"),
        ("server run -f x -Fsamsa=x.p -Fgregor=y.p", 2, "metaq: a broker has one role, not samsa and gregor"),
        ("server run -f x -FjettyBroker=x.properties", 2, "metaq: plug-in jettyBroker is not in this release"),
        ("server start slave -F metaslave=x", 2, "metaq: start slave reads its properties from the home"),
        ("server run -f x -F gregor", 2, "metaq: -F gregor needs a file: -F gregor=FILE"),
        ("server run -f x -Fkafka=x", 2, "metaq: unknown plug-in 'kafka'; there are metaslave, samsa, gregor"),
        ("server run -f /nowhere/server.ini", 1, "metaq: /nowhere/server.ini: cannot be read: No such file"),
        ("server start samsa -F samsa=x", 2, "metaq: start samsa reads its properties from the home"),
        ("server start sideways", 2, "'sideways' is not one of"),
        ("server query", 1, "metaq: `server query` is not in this release"),
        ("server status --home /nowhere", 1, "metaq: /nowhere is no home"),
        ("server close-partitions -topic t -start 0", 2, "metaq: Missing option '--end'"),
        ("server close-partitions -topic t -start x -end 1", 2, "'x' is not a valid integer"),
        ("consume t", 2, "metaq: which cluster? Name it with --url or METAQ_URL"),
        ("consume t --url http://x", 1, "metaq: cannot connect to 'http://x': unknown kind 'http'"),
        ("consume t --url metaq://x --from 7", 2, "metaq: --from OFFSET needs --partition"),
        ("consume t --url metaq://x --from now", 2, "'now' is not earliest, latest, stored, an offset or a time"),
        ("consume t --url metaq://x --group g --partition 0-0", 2, "--group and --partition exclude each other"),
        ("consume t --url metaq://x --from stored", 2, "--from stored needs --group"),
        ("consume t --url metaq://x --count 0", 2, "metaq: Invalid value for '--count'"),
        ("produce t --url metaq://x --file /nowhere", 1, "metaq: /nowhere: No such file or directory"),
        ("doctor /nowhere", 1, "metaq: /nowhere: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_a_status(
    line: str, status: int, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAQ_URL", raising=False)
    monkeypatch.delenv("METAQ_HOME", raising=False)
    assert run(line.split()) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert text in err


def test_the_versions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert run(["server", "version"]) == 0
    assert run(["server", "version", "--json"]) == 0
    line = f"metaq {__version__} (MetaQ 1.4.6.2)\n"
    assert capsys.readouterr().out == line + line + f'{{"version": "{__version__}", "reference": "1.4.6.2"}}\n'


def commands(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands below a group, with the words that name them; groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join([*before, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)


def test_every_command_that_help_lists_can_be_asked_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, _ in commands(Root("metaq")):
        assert run([*words.split(), "--help"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"Usage: metaq {words} ")
        assert err == ""


def test_every_command_prints_json_on_demand_except_those_that_run_or_explain() -> None:
    without = {
        name
        for name, command in commands(Root("metaq"))
        if not isinstance(command, click.Group) and "as_json" not in [parameter.name for parameter in command.params]
    }
    assert without == {"server run", "server help", "registry run"}


def test_help_of_the_server_lists_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["server", "help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in Server.sources)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "/data"), 1, "metaq: /data: No space left on device\n"),
        (RuntimeError("two\nlines"), 1, "metaq: unexpected RuntimeError: two lines (METAQ_DEBUG=1 shows where)\n"),
    ],
)
def test_whatever_happens_there_is_no_traceback(
    error: BaseException,
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.metaq, "invoke", fail)
    monkeypatch.delenv("METAQ_DEBUG", raising=False)
    assert run(["server", "version"]) == status
    assert capsys.readouterr().err.lstrip("\n") == text


def test_the_place_of_a_bug_is_shown_on_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.metaq, "invoke", lambda _: 1 // 0)
    monkeypatch.setenv("METAQ_DEBUG", "1")
    assert run(["server", "version"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_module_is_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["metaq", "server", "status", "--home", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
