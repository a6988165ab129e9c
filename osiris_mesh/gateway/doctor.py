"""What is wrong with this node, each finding with what to do about it."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from osiris_mesh.identity.home import Home

__all__ = ["Check", "Facts", "diagnose"]

_DISK_BYTES: Final = 512 << 20
_FILES: Final = 1024
_SKEW_MS: Final = 5_000
_MOST_TOLD: Final = 8


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        ok: Nothing is wrong with it.
        detail: What was found.
        fix: What to do; empty when all is well.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the controller knows of itself.

    Attributes:
        quorum: A leader is known and a majority of the voters is alive.
        leader: Peer id of the leader, or empty.
        members: Nodes by the ledger.
        alive: Nodes that are alive, this one included.
        unreachable: Names of members that are not.
        sandbox: How workers are confined.
        sandboxed: That is a full sandbox.
        skew_ms: Difference of this machine's clock to each peer's, by name.
        discovery: Why mDNS does not work; empty if it does, or is off.
        ledger_problems: What the last verification of the chain found.
        registry_problems: What is wrong with registries: name, what, and what to do.
    """

    quorum: bool
    leader: str
    members: int
    alive: int
    unreachable: tuple[str, ...]
    sandbox: str
    sandboxed: bool
    skew_ms: Mapping[str, int]
    discovery: str = ""
    ledger_problems: tuple[str, ...] = ()
    registry_problems: tuple[tuple[str, str, str], ...] = ()


def diagnose(home: Home, facts: Facts) -> list[dict[str, Any]]:
    """Return every check as a map with ``name``, ``ok``, ``detail`` and ``fix``."""
    checks = [
        _private(home),
        _disk(home),
        _files(),
        Check(
            "quorum",
            facts.quorum,
            f"leader {facts.leader}" if facts.quorum else "no majority of the voters can be reached",
            "" if facts.quorum else "start the controllers that are down; calls of warm functions go on meanwhile",
        ),
        Check(
            "members",
            not facts.unreachable,
            f"{facts.alive} of {facts.members} alive"
            + (f"; not: {', '.join(facts.unreachable)}" if facts.unreachable else ""),
            "start them, or remove them with: osiris-mesh member remove PEER" if facts.unreachable else "",
        ),
        Check(
            "sandbox",
            facts.sandboxed,
            facts.sandbox,
            "" if facts.sandboxed else "install bubblewrap and let it make namespaces, then restart the controller",
        ),
        _clock(facts.skew_ms),
        Check(
            "discovery",
            not facts.discovery,
            facts.discovery or "by mDNS, or by addresses alone",
            "members are found by their saved addresses; --no-mdns turns the search off" if facts.discovery else "",
        ),
        Check(
            "ledger",
            not facts.ledger_problems,
            facts.ledger_problems[0] if facts.ledger_problems else "the chain holds",
            "restore the home from a backup, or join again with a new one" if facts.ledger_problems else "",
        ),
        _registries(facts.registry_problems),
    ]
    return [asdict(check) for check in checks]


def _registries(problems: Sequence[tuple[str, str, str]]) -> Check:
    if not problems:
        return Check("registries", ok=True, detail="all that were added answer and are believed")
    return Check(
        "registries",
        ok=False,
        detail="; ".join(f"{name}: {what}" for name, what, _ in problems[:_MOST_TOLD]),
        fix="; ".join(dict.fromkeys(fix for _, _, fix in problems[:_MOST_TOLD])),
    )


def _private(home: Home) -> Check:
    modes = {
        path: stat.S_IMODE(path.stat().st_mode)
        for path in (home.path, home.node_key, home.user_key, home.network_key, home.socket)
        if path.exists()
    }
    open_to_others = [path for path, mode in modes.items() if mode & 0o077]
    if open_to_others:
        names = ", ".join(str(path) for path in open_to_others)
        return Check("permissions", ok=False, detail=f"others can read {names}", fix=f"chmod go-rwx {names}")
    return Check("permissions", ok=True, detail=f"{home.path} is its owner's alone")


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.path).free
    ok = free >= _DISK_BYTES
    return Check(
        "disk",
        ok,
        f"{free >> 20} MiB free at {home.path}",
        "" if ok else f"free at least {_DISK_BYTES >> 20} MiB: a full disk stops the ledger here",
    )


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208 - descriptors, not paths
    ok = soft >= _FILES and used < soft * 0.8
    return Check(
        "open files",
        ok,
        f"{used} of {soft} used" if used else f"{soft} allowed",
        "" if ok else f"raise the limit with: ulimit -n {min(hard, 65_536)}",
    )


def _clock(skew_ms: Mapping[str, int]) -> Check:
    wrong = {name: skew for name, skew in skew_ms.items() if abs(skew) > _SKEW_MS}
    if wrong:
        detail = ", ".join(f"{name} {skew / 1000:+.1f} s" for name, skew in wrong.items())
        return Check("clock", ok=False, detail=f"clocks differ: {detail}", fix="let NTP set the clock on every machine")
    return Check("clock", ok=True, detail=f"within {_SKEW_MS // 1000} s of {len(skew_ms)} peers")
