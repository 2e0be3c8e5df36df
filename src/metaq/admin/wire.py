"""What both ends of the control socket share, with nothing that only the broker's end needs."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

LONGEST_ADDRESS: Final = 107  # bytes of a Unix socket's path (Linux: sun_path)

Values = Mapping[str, object]


@contextmanager
def short_address(path: str) -> Iterator[str]:
    """Yield a name for the socket at `path` that fits into an address, valid while the context lasts."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
