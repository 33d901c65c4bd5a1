"""What `flock` says of a disk, and of a lock that is another user's: no lock is kept here.

Windows has locks of another kind: there nothing is asked.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

MISSING = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def are_missing(file: int) -> bool:
    """Say whether the disk of a file, which is open, cannot lock it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in MISSING
    return False


def is_free(path: Path) -> bool:
    """Say whether nobody has a lock that may be read and not written; False if that is not told."""
    if sys.platform != "win32":
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # kept until it is closed
                return True
        except OSError:
            return False
    return False
