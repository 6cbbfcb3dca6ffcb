"""What a serving process does with memory that it does not need at the moment."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

# glibc's numbers and its largest value for the second: mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGEST_MMAP_THRESHOLD: Final = 32 * 1024 * 1024

# An event of 16 MiB takes as much three times: as it came, joined, and as a parsed string. What
# else is free beside these counts too.
_KEPT: Final = 64 * 1024 * 1024


def settle() -> None:
    """Say that what there is now stays, and that freed memory is for the next large event.

    By itself, glibc gives a large event's memory back to the kernel and asks for it again with
    the next event. The kernel clears it, page by page: that takes longer than all that is done to
    the event. Other C libraries have their own ways and are left alone.
    """
    gc.freeze()  # the table and the code: nobody need look at them again
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            mallopt(_TRIM_THRESHOLD, _KEPT)
