"""The version of the distribution, alone, so that nothing inside imports the package root."""

from typing import Final

__version__ = "0.1.0"

REFERENCE_VERSION: Final = "1.4.6.2"  # what plain `version` answers: the release whose wire and files we match
