"""Which paths nodes may have (source: org.apache.zookeeper.common.PathUtils)."""

import re
from typing import Final

# control characters, surrogates and private use, non-characters; ZooKeeper refuses them so that logs stay readable
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


def is_valid(path: str) -> bool:
    """Say whether a path is absolute, without a slash at its end, without empty, `.` or `..` parts."""
    if path == "/":
        return True
    first, *names = path.split("/")
    return not (first or not names or _FORBIDDEN.search(path) or any(name in ("", ".", "..") for name in names))


def parent_of(path: str) -> str:
    return path[: path.rindex("/")] or "/"


def name_of(path: str) -> str:
    return path[path.rindex("/") + 1 :]
