"""Reads the machine's load; once a second and off every hot path (about 0.1 ms a reading)."""

from __future__ import annotations

from pathlib import Path

import psutil

from osiris_mesh.gossip.load import Load

__all__ = ["ResourceMonitor"]


class ResourceMonitor:
    """Resources of the machine this node runs on.

    Args:
        folder: A path on the file system whose free space counts: the node's home.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        # The first reading of a share has nothing to compare with and says 0; it is spent here.
        psutil.cpu_percent(interval=None)

    def sample(self) -> Load:
        """Return the load now, without functions; the CPU's share is the mean since the reading before."""
        memory = psutil.virtual_memory()
        try:
            free = psutil.disk_usage(self._folder).free
        except OSError:
            # A home that can't be read is the ledger's and the doctor's to report; here it has no room.
            free = 0
        return Load(
            cpu=psutil.cpu_percent(interval=None) / 100,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            disk_free=free,
        )
