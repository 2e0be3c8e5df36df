"""The client leaves the logging of its application alone."""

import subprocess
import sys
from typing import Final

PROGRAM: Final = """
import logging, sys
import metaq
try:
    metaq.connect("metaq://127.0.0.1:1", connect_timeout=0.05)
except metaq.NoBroker:
    pass
assert logging.getLogger().handlers == []
assert logging.getLogger().level == logging.WARNING
touched = [name for name, logger in logging.Logger.manager.loggerDict.items()
           if isinstance(logger, logging.Logger) and (logger.handlers or logger.level or not logger.propagate)]
print([name for name in touched if name.startswith("metaq")])
"""


def test_no_logging_is_configured_for_the_user() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
