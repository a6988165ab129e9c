"""What a process gives up for good before a stranger's code runs in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "become",
    "die_with_parent",
    "gather_orphans",
    "give_up_privileges",
    "hide",
    "limit",
    "limit_memory",
    "reserved",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9
_prctl: Final = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def _control(option: int, value: int) -> None:
    if _prctl is not None and _prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends."""
    _control(_PR_SET_PDEATHSIG, _SIGKILL)


def give_up_privileges() -> None:
    """Let no program started from here gain rights, and gather orphans below this process."""
    _control(_PR_SET_NO_NEW_PRIVS, 1)
    gather_orphans()


def gather_orphans() -> None:
    """Become the parent of whatever below this process loses its own; not inherited by a fork."""
    _control(_PR_SET_CHILD_SUBREAPER, 1)


def hide() -> None:
    """Keep other processes of the same user out of this one's memory and descriptors."""
    _control(_PR_SET_DUMPABLE, 0)


def become(user: int) -> None:
    """Take a user and group id without any rights; does nothing for 0."""
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def limit(limits: Mapping[str, Any]) -> None:
    """Set the limits that don't depend on what was imported.

    Args:
        limits: ``files``, ``file_size``, ``processor_s`` and, if 0 without effect, ``processes``.
    """
    os.umask(0o077)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, limits["files"])
    _lower(resource.RLIMIT_FSIZE, limits["file_size"])
    _lower(resource.RLIMIT_CPU, limits["processor_s"])
    if limits["processes"]:
        _lower(resource.RLIMIT_NPROC, limits["processes"])
    with contextlib.suppress(AttributeError, ValueError, OSError):
        _lower(resource.RLIMIT_MSGQUEUE, 0)


def reserved() -> int:
    """Return the bytes of address space this process has reserved; 0 where the system doesn't tell."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - no pathlib in the zygote: it stays small
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def limit_memory(extra: int) -> None:
    """Let this process reserve ``extra`` bytes more than it has."""
    have = reserved()
    if have:
        _lower(resource.RLIMIT_AS, have + extra)


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))
