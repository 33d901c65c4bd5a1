"""Files of `torch.save` are zip archives, and torch reads them without looking at their checksums.

A bit that a disk lost would become another weight, and nothing would say so.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

FOLDER = 0x10  # torch takes a part with this attribute for one, and leaves its memory as it was


class Damaged(ValueError):
    """A file that is not what was written; the message says why."""


def check(file: Path | IO[bytes]) -> None:
    """Hold all that an archive stores against its checksums.

    Raises:
        Damaged: if they do not match, or it is cut short, empty or no archive.
        OSError: if the file cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            folders = [one.filename for one in archive.infolist() if one.external_attr & FOLDER]
            bad = archive.testzip() or next(iter(folders), None)
    except OSError:
        raise
    except Exception as error:  # damage in an archive's own tables shows in many ways
        raise Damaged(f"it is no whole archive: {str(error) or type(error).__name__}") from None
    if bad is not None:
        raise Damaged(f"the checksum of its part {bad} does not match")
