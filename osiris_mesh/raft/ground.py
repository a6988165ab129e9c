"""PySyncObj 0.3.17 made fit to build on, before anything of it runs; import it from here only.

- The source must be the one that was read: :data:`SOURCES` are its hashes, so that an upgrade is a decision (go through
  ``DESIGN.md`` row by row, run ``tests/raft/test_rows.py`` against the new bare version, then change them).
- Row 21: pickle lets whoever writes a message or a file run code. Its functions are replaced by ones that refuse; our
  layer gives PySyncObj nothing to serialise, so that a call of one of them is a defect and stops the node.
- Row 9: ``createJournal`` hands back the :class:`~osiris_mesh.raft.journal.Journal` it is given.
- Time: PySyncObj reads a module's function; it now reads the clock of the node whose tick is running.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pysyncobj.journal
import pysyncobj.pickle
import pysyncobj.serializer
import pysyncobj.syncobj
import pysyncobj.tcp_connection
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from osiris_mesh.errors import InternalError

__all__ = ["SOURCES", "Node", "Transport", "now", "syncobj", "use_clock"]

SOURCES: Final = {
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
}

syncobj: Final[Any] = pysyncobj.syncobj
_clock = threading.local()


def use_clock(monotonic: Callable[[], float]) -> None:
    """Make ``monotonic`` the clock of this thread's ticks from now on."""
    _clock.monotonic = monotonic


def now() -> float:
    """Return the monotonic seconds of this thread's clock."""
    read: Callable[[], float] = getattr(_clock, "monotonic", time.monotonic)
    return read()


def _check_sources() -> None:
    folder = Path(syncobj.__file__).parent
    for name, expected in SOURCES.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise InternalError(
                f"the installed pysyncobj/{name} is not the one osiris_mesh.raft corrects (SHA-256 {found})",
                fix="install pysyncobj 0.3.17, as the lock file says",
            )


def _refuse(*_args: Any, **_named: Any) -> Any:
    raise InternalError("PySyncObj tried to serialise an object; nothing of ours needs that")


def _take_pickle_away() -> None:
    for name in ("load", "loads", "dump", "dumps"):
        setattr(pysyncobj.pickle, name, _refuse)
    pysyncobj.pickle.pickle = None
    # Names that were imported by value before they could be replaced.
    pysyncobj.journal.loads = _refuse
    pysyncobj.journal.dumps = _refuse


def _given_journal(journal: Any) -> Any:
    return journal


_check_sources()
_take_pickle_away()
syncobj.createJournal = _given_journal
syncobj.monotonicTime = now
