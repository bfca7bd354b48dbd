"""One process at a time writes to a folder of checkpoints."""

import fcntl
import os
import socket
import weakref
from pathlib import Path

_open_files: set[int] = set()


def _forget_in_child() -> None:
    """A forked child, as a worker that loads data, must not keep the lock of a parent that was killed."""
    for handle in _open_files:
        os.close(handle)
    _open_files.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class Lock:
    """The right to write to a folder, held through flock on `.lock` in it: a process that dies gives it up."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / ".lock"
        self._handle = -1
        self._release: weakref.finalize | None = None

    def take(self) -> str | None:
        """Take the lock unless it is held already; return a sentence where that cannot be.

        OSError where the folder is missing or cannot be written. A lock whose file was deleted is taken anew.
        """
        if self._handle in _open_files and not self.lost():
            return None
        self.release()
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            return (
                f"{self._folder} belongs to a run that is still going on (process {holder}), so nothing is saved "
                f"there; stop that run, or give this one another folder"
            )
        except BaseException:
            os.close(handle)
            raise
        _open_files.add(handle)
        self._handle, self._release = handle, weakref.finalize(self, _close, handle)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return None

    def lost(self) -> bool:
        """Return whether the lock is held on a file that is not there any more: the folder was deleted or moved."""
        if self._handle not in _open_files:
            return False
        try:
            return not os.path.samestat(os.fstat(self._handle), self._path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return True

    def release(self) -> None:
        """Give the lock up; without it, nothing happens."""
        if self._release is not None:
            self._release()


def _close(handle: int) -> None:
    if handle in _open_files:  # in a forked child it is closed already
        _open_files.discard(handle)
        fcntl.flock(handle, fcntl.LOCK_UN)  # a child that is being forked may still have a copy of the handle
        os.close(handle)
