"""A real disk that breaks and is mended: a file system in a file, on a loop device that ends early while it is broken.

What lies beyond the end of a device cannot be read or written (EIO); what was written before is there again afterwards.
"""

import fcntl
import os
import struct
import subprocess
from pathlib import Path
from typing import Final

_GET_STATUS: Final = 0x4C05  # LOOP_GET_STATUS64 and LOOP_SET_STATUS64 of linux/loop.h
_SET_STATUS: Final = 0x4C04
_INFO_SIZE: Final = 232
_SIZE_LIMIT_AT: Final = 32  # `lo_sizelimit` in struct loop_info64, bytes; 0: the whole file
_SIZE: Final = 64 << 20
_BROKEN_SIZE: Final = 64 << 10  # the head of the file system alone


class BrokenDisk:
    """`place` is where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self._image = folder / "image"
        self._device = ""

    def attach(self) -> bool:
        """Make and mount it; return whether this machine allows that."""
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_SIZE)
        made = _order("mkfs.ext4", "-q", "-m", "0", str(self._image)) is not None
        device = _order("losetup", "-f", "--show", str(self._image)) if made else None
        self._device = device or ""
        return device is not None and self.mount()

    def mount(self) -> bool:
        return _order("mount", self._device, str(self.place)) is not None

    def unmount(self) -> None:
        """Take it off, with all that the system has in memory of it."""
        assert _order("umount", str(self.place)) is not None, "it is in use"

    def detach(self) -> None:
        """Take it away, whatever state it is in."""
        self.mend()
        _order("umount", "-l", str(self.place))
        _order("losetup", "-d", self._device)

    def destroy(self) -> None:
        """Let every access fail that goes to the disk."""
        self._limit(_BROKEN_SIZE)

    def mend(self) -> None:
        if self._device:
            self._limit(0)

    def forget(self) -> None:
        """Let the system have nothing in memory of files that are on disk."""
        for path in self.place.rglob("*"):
            if path.is_file():
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def _limit(self, size: int) -> None:
        fd = os.open(self._device, os.O_RDONLY)
        try:
            info = bytearray(_INFO_SIZE)
            fcntl.ioctl(fd, _GET_STATUS, info)
            struct.pack_into("=Q", info, _SIZE_LIMIT_AT, size)
            fcntl.ioctl(fd, _SET_STATUS, info)
        finally:
            os.close(fd)


def _order(*command: str) -> str | None:
    """Run a command; return what it says, None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
