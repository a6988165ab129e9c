"""What stands between a function and this machine.

Three strengths, the strongest that works here is taken:

===============  ==================================================================================================
``bubblewrap``   own process, mount, IPC and host-name namespaces, no network unless granted, a read-only system, a
                 private bounded /tmp, nothing visible but the interpreter, the bundle, its environment and the kit
``limits``       resource limits, a clean environment, closed descriptors, no new privileges; the file system and the
                 network stay visible
===============  ==================================================================================================

Resource limits, the clean environment and no new privileges hold in both. As root, the sandbox is built with root's
rights and the function gets a user id of its own without any; as another user, it lives in a user namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from osiris_mesh.errors import Unavailable
from osiris_mesh.settings.runtime import RuntimeSettings

__all__ = ["Sandbox", "SandboxStatus", "View", "probe"]

FIRST_UID: Final = 1_400_000_000
"""User ids that functions get when the controller runs as root; far above those of people and services."""

_PROBE_S: Final = 10.0
_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC: Final = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
)
_ETC_NETWORK: Final = (
    "/etc/ca-certificates",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
)
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    # One call has one processor's worth of work; numerical libraries would start a thread per core at import, and
    # threads do not survive the fork.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Address space is limited, and glibc reserves 64 MiB of it for each thread's arena.
    "MALLOC_ARENA_MAX": "2",
    # Freed memory is kept for the next call, up to 16 MiB: by its own thresholds glibc gives it back after each large
    # one, whose page faults then cost more than all else. The names do end in an underscore.
    "MALLOC_MMAP_THRESHOLD_": "8388608",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
}


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What ``status`` says.

    Attributes:
        name: ``bubblewrap`` or ``limits``.
        applied: What holds, as words.
        missing: What could not be applied, and why.
    """

    name: str
    applied: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Where the parts of a function are, seen from inside.

    Attributes:
        code: The bundle's files.
        site: Installed dependencies; empty without.
        kit: What a worker needs of ours.
        scratch: The private temporary folder.
    """

    code: str
    site: str
    kit: str
    scratch: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How a zygote is started here.

    Attributes:
        program: Path of bubblewrap; empty for ``limits``.
        as_root: The controller is root.
        status: What holds.
    """

    program: str
    as_root: bool
    status: SandboxStatus

    @property
    def isolated(self) -> bool:
        """Whether functions live in namespaces."""
        return bool(self.program)

    def view(self, *, code: Path, site: Path | None, kit: Path, scratch: Path) -> View:
        """Return where these folders are, seen from inside."""
        if self.program:
            return View("/function", "/environment" if site else "", "/kit", "/tmp")  # noqa: S108 - its own
        return View(str(code), str(site) if site else "", str(kit), str(scratch))

    def argv(
        self,
        command: Sequence[str],
        *,
        code: Path,
        site: Path | None,
        kit: Path,
        prefix: Path,
        network: bool,
        scratch_size: int,
    ) -> list[str]:
        """Return the argument vector that runs ``command`` inside.

        Args:
            command: What to run, by paths as seen from inside.
            code: Folder of the bundle's files.
            site: Folder of installed dependencies, or None.
            kit: Folder of the kit.
            prefix: Installation of the interpreter.
            network: The function may use the network.
            scratch_size: Bytes of its private /tmp.
        """
        if not self.program:
            return list(command)
        argv = [self.program, *_namespaces(as_root=self.as_root), *([] if network else ["--unshare-net"])]
        argv += _system(prefix, network=network)
        argv += ["--proc", "/proc", "--dev", "/dev"]
        size = str(scratch_size)
        argv += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
        argv += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]  # noqa: S108 - its own
        argv += ["--ro-bind", str(kit), "/kit", "--ro-bind", str(code), "/function"]
        if site:
            argv += ["--ro-bind", str(site), "/environment"]
        return [*argv, "--remount-ro", "/", "--chdir", "/tmp", "--", *command]  # noqa: S108 - its own

    def environment(self, view: View) -> Mapping[str, str]:
        """Return the whole environment of a zygote."""
        return _ENVIRONMENT | {"HOME": view.scratch, "TMPDIR": view.scratch}


def probe(settings: RuntimeSettings) -> Sandbox:
    """Find out, by trying, which sandbox works here; blocks for some milliseconds.

    Raises:
        Unavailable: A sandbox is required and there is none.
    """
    as_root = os.geteuid() == 0
    limits = ("clean environment", "closed descriptors", "resource limits", "no new privileges")
    why = _why_not(as_root=as_root) if settings.sandbox != "off" else "the setting runtime.sandbox is off"
    if not why:
        program = shutil.which("bwrap") or ""
        applied = (*limits, "namespaces", "read-only system", "private /tmp", "no network unless granted")
        lacking = ("a seccomp filter", "control groups")
        return Sandbox(program, as_root, SandboxStatus("bubblewrap", applied, lacking))
    if settings.sandbox == "require":
        raise Unavailable(
            f"functions can't be isolated here: {why}",
            fix="install bubblewrap and allow namespaces, or set runtime.sandbox to auto",
            maybe=False,
        )
    weaker = limits if sys.platform == "linux" else limits[:3]
    missing = (f"namespaces: {why}", "a private file system", "network control")
    return Sandbox("", as_root, SandboxStatus("limits", weaker, missing))


def _why_not(*, as_root: bool) -> str:
    if sys.platform != "linux":
        return f"{sys.platform} has no namespaces"
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed"
    argv = [program, *_namespaces(as_root=as_root), "--unshare-net", *_system(Path("/usr"), network=False)]
    argv += ["--proc", "/proc", "--dev", "/dev", "--size", "4096", "--tmpfs", "/tmp", "--remount-ro", "/"]  # noqa: S108
    argv += ["--", shutil.which("true", path="/usr/bin:/bin") or "/usr/bin/true"]
    try:
        done = subprocess.run(
            argv, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"bubblewrap does not start: {error}"
    if done.returncode:
        return f"bubblewrap: {done.stderr.decode('utf-8', 'replace').strip()[-300:] or f'exit {done.returncode}'}"
    return ""


def _namespaces(*, as_root: bool) -> list[str]:
    argv = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "function"]
    # Bubblewrap's own first process stays: it keeps the user id that may be signalled when the controller dies, and
    # with the first process of a namespace everything in it ends.
    argv += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if as_root:
        # Just enough for the zygote to become nobody in particular; it gives these up by doing so.
        return [*argv, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*argv, "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000"]


def _system(prefix: Path, *, network: bool) -> list[str]:
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            argv += ["--ro-bind", name, name]
    for name in (*_ETC, *(_ETC_NETWORK if network else ())):
        argv += ["--ro-bind-try", name, name]
    if not prefix.is_relative_to("/usr"):
        # Made here, readable: bubblewrap would make them as private as they are outside.
        for parent in reversed(prefix.parents[:-1]):
            argv += ["--perms", "0755", "--dir", str(parent)]
        argv += ["--ro-bind", str(prefix), str(prefix)]
    return argv
