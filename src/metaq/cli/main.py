"""The command `metaq` and what is the same for all its words: errors, exit statuses, Ctrl-C, closed pipes.

Exit status 0: done; 1: failed; 2: wrong use; 130: ended by Ctrl-C. An error is one line on stderr.
METAQ_DEBUG=1 shows where an unexpected error came from.
"""

import errno
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import click

from metaq._version import REFERENCE_VERSION, __version__
from metaq.cli import logs
from metaq.cli.commands import Commands
from metaq.cli.output import complain
from metaq.errors import MetaqError

INTERRUPTED: Final = 130


class Root(Commands):
    """The words after `metaq`."""

    sources: ClassVar[Mapping[str, str]] = {
        "server": "metaq.cli.server:server",
        "produce": "metaq.cli.produce:produce",
        "consume": "metaq.cli.consume:consume",
        "bench": "metaq.cli.bench:bench",
        "topics": "metaq.cli.topics:topics",
        "groups": "metaq.cli.groups:groups",
        "brokers": "metaq.cli.brokers:brokers",
        "registry": "metaq.cli.registry:registry",
        "doctor": "metaq.cli.doctor:doctor",
    }


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message=f"metaq %(version)s (MetaQ {REFERENCE_VERSION})")
def metaq() -> None:
    """A durable, partitioned, replayable message log: MetaQ 1.4.6.2 again, in Python."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out one command line and end the process with its exit status."""
    logs.show_to_people()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line; return its exit status. Never raises."""
    try:
        outcome: object = metaq.main(arguments, prog_name="metaq", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort as exc:
        return INTERRUPTED if isinstance(exc.__cause__, KeyboardInterrupt) else _failed("not confirmed")
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.UsageError as exc:
        context = exc.ctx.command_path if exc.ctx else "metaq"
        complain(f"{exc.format_message()} ({context} --help)")
        return exc.exit_code
    except click.ClickException as exc:
        complain(exc.format_message())
        return exc.exit_code
    except MetaqError as exc:
        return _failed(str(exc))
    except OSError as exc:
        return _system_error(exc)
    except Exception as exc:  # noqa: BLE001 - the last line before the user: one line, no traceback
        if os.environ.get("METAQ_DEBUG"):
            traceback.print_exc()
        return _failed(f"unexpected {type(exc).__name__}: {exc} (METAQ_DEBUG=1 shows where)")
    return outcome if isinstance(outcome, int) else 0


def _failed(text: str) -> int:
    complain(text)
    return 1


def _system_error(exc: OSError) -> int:
    """Report an error of the operating system; none where only the reader of our output has left."""
    if exc.errno == errno.EPIPE:
        # what is still buffered has nowhere to go; without this the interpreter complains at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return _failed(f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else str(exc))
