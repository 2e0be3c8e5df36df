"""The log of a broker: one line per event on stderr, for people or as JSON."""

import json
import logging
import sys
from datetime import datetime
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")
LEVEL: Final = "info"  # until server.ini is read
FORMATS: Final = ("text", "json")
_QUIET: Final = ("kazoo", "asyncio")  # libraries that say at INFO what we say ourselves


class TextLine(logging.Formatter):
    """`time level logger message`, the time with zone; what has several lines is joined by " | "."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as one line."""
        text = f"{_time(record)} {record.levelname} {record.name} {_message(self, record)}"
        return " | ".join(line.strip() for line in text.splitlines())


class JsonLine(logging.Formatter):
    """An object with time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event as one line."""
        return json.dumps(
            {
                "time": _time(record),
                "level": record.levelname,
                "logger": record.name,
                "message": _message(self, record),
            },
            ensure_ascii=False,
        )


def configure(form: str, level: str) -> None:
    """Send the log of this process to stderr, for good. Only the command does this, never the library."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if form == "json" else TextLine())
    logging.basicConfig(handlers=[handler], force=True)
    logging.raiseExceptions = False  # whoever read our stderr may go away; the broker goes on
    set_level(level)


def set_level(level: str) -> None:
    """Write events of this level and above from now on."""
    logging.getLogger().setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def show_to_people() -> None:
    """Show what happens meanwhile, such as a broken connection, to who sits at a terminal; scripts get the outcome."""
    level = logging.WARNING if sys.stderr.isatty() else logging.CRITICAL
    logging.basicConfig(format="metaq: %(message)s", level=level)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    return f"{text}\n{formatter.formatException(record.exc_info)}" if record.exc_info else text
