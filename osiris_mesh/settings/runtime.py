"""Settings of ``osiris_mesh.runtime``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["RuntimeSettings", "Sandbox"]

Sandbox = Literal["auto", "require", "off"]


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Settings of the runtime: how functions are stored, installed, started, queued and stopped.

    Attributes:
        sandbox: ``auto`` takes the strongest sandbox this machine offers and says which; ``require`` refuses to run a
            function without namespaces; ``off`` is for development: limits and a clean environment only.
        queue: Calls of one function that may wait for an instance on this node; one more is answered
            :class:`~osiris_mesh.errors.Overloaded` at once. Larger rides out bursts and costs memory and latency.
        start_timeout_s: Seconds a function may take to import its modules before its start counts as failed.
        environment_timeout_s: Seconds one installation of dependencies may take.
        lock_timeout_s: Seconds one resolution of dependencies may take.
        test_timeout_s: Seconds all deploy-time tests of a bundle may take together.
        fetch_timeout_s: Seconds without a byte after which a peer that sends a bundle is given up.
        backoff_s: Pause after an instance died at its start; doubles with each further failure.
        backoff_max_s: Longest such pause.
        retire_after_busy_s: Seconds of work after which an instance is replaced, so that a leak can't grow for ever;
            its processor-time limit follows from it.
        zygote_idle_s: Seconds without an instance after which a zygote ends.
        import_memory: Bytes of address space a zygote may reserve beyond the function's own memory limit while it
            imports (scientific libraries reserve far more than they touch).
        scratch: Bytes of a function's private temporary folder, where the sandbox can bound it.
        file_size: Bytes of the largest file a function may write.
        open_files: Files a worker may hold open.
        processes: Processes and threads a worker's user may have; has no effect when the controller runs as root.
        log_line: Bytes of one log line; the rest of a longer line is dropped.
        log_file: Bytes of a function's log file before it is rotated; one older file is kept.
        log_ring: Lines per function kept in memory.
        log_ring_size: Letters per function kept in memory.
        log_rate: Bytes a second one worker may write to its standard streams; past it, it waits.
        error_tail: Bytes of standard error quoted when a worker dies.
    """

    sandbox: Sandbox = "auto"
    queue: int = 1000
    start_timeout_s: float = 30.0
    environment_timeout_s: float = 600.0
    lock_timeout_s: float = 180.0
    test_timeout_s: float = 300.0
    fetch_timeout_s: float = 15.0
    backoff_s: float = 0.25
    backoff_max_s: float = 30.0
    retire_after_busy_s: float = 3600.0
    zygote_idle_s: float = 900.0
    import_memory: int = 1 << 30
    scratch: int = 256 << 20
    file_size: int = 256 << 20
    open_files: int = 1024
    processes: int = 256
    log_line: int = 8192
    log_file: int = 8 << 20
    log_ring: int = 1000
    log_ring_size: int = 256 << 10
    log_rate: int = 4 << 20
    error_tail: int = 4096

    @classmethod
    def preset(cls, name: str) -> RuntimeSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        if name == "test":
            return cls(start_timeout_s=10.0, backoff_s=0.05, backoff_max_s=0.5, zygote_idle_s=60.0)
        return cls()
