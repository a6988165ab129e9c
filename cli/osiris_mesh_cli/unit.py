"""The text of a systemd unit that runs one node. Pure.

What hardening there may be is limited by what the controller itself must do: its sandbox makes user, mount and process
namespaces of its own and mounts a fresh /proc in them, which the kernel forbids where parts of /proc are covered. So
nothing is set that restricts namespaces or covers /proc (``RestrictNamespaces``, ``ProtectKernelTunables``,
``ProtectKernelLogs``, ``ProtectProc``, ``PrivateDevices``), and a user's own manager, which can only get mount options
with a namespace that many machines forbid it, gets those alone that are filters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["quoted", "unit_text"]

# A drain takes up to 10 s, handing over and closing a few more.
_STOP_SECONDS: Final = 60
_FILTERS: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "UMask=0077",
)


def quoted(word: str) -> str:
    """Return a word as systemd reads it back, specifiers and variables included.

    Raises:
        UsageError: It has control characters; no unit can hold it.
    """
    if not word.isprintable():
        raise UsageError(f"{word!r} can't stand in a unit", fix="use a path of printable letters")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'


def _path(path: Path) -> str:
    """Return a path for a setting that knows no variables."""
    return quoted(str(path)).replace("$$", "$")


def unit_text(home: Path, *, python: str, system: bool, run_as: str = "", log_level: str | None = None) -> str:
    """Return the unit.

    Args:
        home: The node's folder.
        python: The interpreter with osiris-mesh.
        system: For the machine's manager, with ``run_as``; else for a user's own.
        run_as: Name of the user it runs as; only with ``system``.
        log_level: Value of ``OSIRIS_LOG``, if one is wanted.
    """
    command = " ".join([quoted(python), "-P", "-m", "osiris_mesh.node", "--home", quoted(str(home))])
    unit = [
        f"Description=Osiris Mesh node in {str(home).replace('%', '%%')}",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=10",
    ]
    if system:
        unit += ["Wants=network-online.target", "After=network-online.target"]
    service = [
        "Type=exec",
        f"ExecStart={command}",
        *([f"User={run_as}"] if run_as else []),
        *([f'Environment="OSIRIS_LOG={log_level}"'] if log_level else []),
        "KillMode=mixed",
        f"TimeoutStopSec={_STOP_SECONDS}",
        # 2 is a contradiction with what is there, 5 not permitted (the node was removed): trying again helps neither.
        "Restart=on-failure",
        "RestartPreventExitStatus=2 5",
        "RestartSec=2",
        "LimitNOFILE=65536",
        *_FILTERS,
    ]
    if system:
        service += [
            # Installed dependencies are cached in the home: the user's own cache can't be written.
            f"Environment={quoted(f'UV_CACHE_DIR={home}/cache').replace('$$', '$')}",
            "CapabilityBoundingSet=",
            "ProtectSystem=strict",
            f"ReadWritePaths={_path(home)}",
            "ProtectHome=read-only",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "ProtectKernelModules=yes",
            *([] if home.is_relative_to("/tmp") or home.is_relative_to("/var/tmp") else ["PrivateTmp=yes"]),  # noqa: S108
        ]
    target = "multi-user.target" if system else "default.target"
    sections = (("Unit", unit), ("Service", service), ("Install", [f"WantedBy={target}"]))
    return "\n\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in sections) + "\n"
