"""How this process keeps memory it has freed: glibc's allocator, told once; elsewhere nothing happens.

Left alone, glibc maps a large block anew for every use, or gives the end of its heap back after each, whichever its
moving thresholds come to; a call with 1 MiB of arguments then spends more time on page faults than on all else. Workers
get the same by their environment (``runtime/sandbox.py``).
"""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["LARGEST_KEPT", "MOST_KEPT", "give_back", "keep_freed"]

LARGEST_KEPT: Final = 8 << 20
"""Blocks of at least so many bytes are mapped by themselves, and gone once freed."""
MOST_KEPT: Final = 16 << 20
"""Free bytes at the heap's end beyond which it is given back: what a node may hold more than it needs."""
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def keep_freed() -> bool:
    """Keep what is freed, within the bounds above; say whether the allocator took it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(_TRIM_THRESHOLD, MOST_KEPT))


def give_back() -> None:
    """Give what is free to the system now, for a moment after which much less is needed than before."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return
