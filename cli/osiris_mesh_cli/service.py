"""``service install remove``: the node as a service of systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import Conflict, Denied, NotFound, OsirisError, UsageError
from osiris_mesh_cli.process import is_held
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.unit import unit_text

app = noun("The node as a service of systemd.")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_SYSTEM: Final = Path("/etc/systemd/system")
_OF_SYSTEMD: Final = ("PATH", "HOME", "LANG", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")

UserFlag = Annotated[bool, typer.Option("--user", help="A service of this user (the default unless root).")]
SystemFlag = Annotated[bool, typer.Option("--system", help="A service of the machine, started at boot.")]
NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the service, if several nodes run.")]


def _place(name: str, *, system: bool) -> Path:
    if not _NAME.match(name):
        raise UsageError(f"{name!r} can't name a service", fix="use letters, digits, _ . and -")
    if system:
        return _SYSTEM / f"{name}.service"
    given = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(given) if given else Path.home() / ".config") / "systemd" / "user" / f"{name}.service"


def _is_system(user: bool, system: bool) -> bool:
    if user and system:
        raise UsageError("a service is --user or --system, not both", fix="leave one out")
    return system or (not user and os.geteuid() == 0)


def _manager(system: bool) -> str:
    return "sudo systemctl" if system and os.geteuid() else "systemctl" if system else "systemctl --user"


@command(app, example="service install --user\nservice install --system --print\nservice install --print --json")
def install(
    session: Session,
    user: UserFlag = False,
    system: SystemFlag = False,
    run_as: Annotated[
        str, typer.Option("--run-as", metavar="USER", help="Whose service of the machine it is; the home's owner.")
    ] = "",
    name: NameOption = "osiris-mesh",
    print_: Annotated[bool, typer.Option("--print", help="Print the unit and write nothing.")] = False,
) -> None:
    """Write the systemd unit that runs this node; nothing is started."""
    home = session.home.path
    of_machine = _is_system(user, system)
    if not of_machine and run_as:
        raise UsageError("--run-as is for a service of the machine", fix="add --system")
    path = _place(name, system=of_machine)
    owner = run_as or (_owner(home) if of_machine else "")
    text = unit_text(
        home, python=sys.executable, system=of_machine, run_as=owner, log_level=os.environ.get("OSIRIS_LOG")
    )
    value: dict[str, Any] = {"unit": text, "path": str(path), "written": not print_, "checked": False}
    if print_:
        session.result(value, text.rstrip("\n"))
        return
    if not session.home.mesh_file.exists():
        raise NotFound(
            f"{home} belongs to no mesh, so its service would fail",
            fix="first osiris-mesh init or osiris-mesh join TOKEN, with --detach; then install the service",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except PermissionError:
        raise Denied(
            f"{path} can't be written",
            fix="as root: osiris-mesh service install --system --home FOLDER; or without --system",
        ) from None
    value["checked"] = _checked(path, system=of_machine)
    manager = _manager(of_machine)
    session.result(value, f"wrote {path}")
    if is_held(session.home):
        session.next("stop (the service can't run beside it)")
    session.say(f"next: {manager} daemon-reload && {manager} enable --now {name}")
    if not of_machine:
        session.say("to have it run without a login: loginctl enable-linger")


@command(app, example="service remove --user")
def remove(
    session: Session, user: UserFlag = False, system: SystemFlag = False, name: NameOption = "osiris-mesh"
) -> None:
    """Remove the systemd unit of this node; stop the service first."""
    of_machine = _is_system(user, system)
    path = _place(name, system=of_machine)
    try:
        if "osiris_mesh.node" not in path.read_text("utf-8"):
            raise Conflict(f"{path} was not written by osiris-mesh", fix="remove it yourself if you mean it")
        path.unlink()
    except FileNotFoundError:
        raise NotFound(f"there is no unit {path}", fix="see: osiris-mesh service install") from None
    except PermissionError:
        raise Denied(f"{path} can't be removed", fix="do it as root") from None
    session.result({"path": str(path), "removed": True}, f"removed {path}")
    session.say(f"next: {_manager(of_machine)} daemon-reload")
    if session.home.mesh_file.exists():
        session.next("start --detach")


def _owner(home: Path) -> str:
    """Return who owns the home, or who is here if there is none yet."""
    import pwd  # noqa: PLC0415 - only a service of the machine needs it

    try:
        return pwd.getpwuid(home.stat().st_uid if home.exists() else os.geteuid()).pw_name
    except KeyError:
        raise OsirisError(
            f"the owner of {home} has no name on this machine", fix="say whose service it is: --run-as USER"
        ) from None


def _checked(path: Path, *, system: bool) -> bool:
    """Let systemd read the unit, where it is there to do so.

    Raises:
        Conflict: systemd does not take it.
    """
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return False
    given = {name: os.environ[name] for name in _OF_SYSTEMD if name in os.environ}
    words = [tool, *(() if system else ("--user",)), "verify", str(path)]
    try:
        done = subprocess.run(words, env=given, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    complaints = [line for line in done.stderr.splitlines() if path.name in line]
    if complaints:
        raise Conflict(f"systemd does not take {path}: {complaints[0]}", fix="please report this")
    return done.returncode == 0
