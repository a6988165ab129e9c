"""Which interpreter runs a function: this one's base installation, or another that is installed on the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from osiris_mesh.errors import OsirisError, Unavailable
from osiris_mesh.runtime.installer import run_installer

__all__ = ["Interpreter", "environment_key", "find_interpreter"]

_ASK: Final = (
    "import json,sys,sysconfig;"
    "print(json.dumps([sys.executable,sys.base_prefix,list(sys.version_info[:3]),sysconfig.get_config_var('SOABI')]))"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python installation.

    Attributes:
        program: Absolute path of its executable, no link.
        prefix: Folder of the installation.
        version: Such as ``3.11.7``.
        identity: What an environment built for it depends on: version, binary interface, machine, place.
    """

    program: Path
    prefix: Path
    version: str
    identity: str


def find_interpreter(runtime: str) -> Interpreter:
    """Return the interpreter for a runtime such as ``python3.11``; blocks, may start a process. Remembered.

    Raises:
        Unavailable: There is none on this machine.
    """
    return _find(runtime)


@lru_cache(maxsize=32)
def _find(runtime: str) -> Interpreter:
    wanted = runtime.removeprefix("python")
    if wanted == f"{sys.version_info[0]}.{sys.version_info[1]}":
        # The virtual environment the controller runs in is none of the function's business.
        program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    else:
        program = _elsewhere(wanted, runtime)
    try:
        answer = subprocess.run(
            [os.fspath(program), "-I", "-S", "-c", _ASK],
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=True,
        )
        executable, prefix, version, interface = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise Unavailable(f"{runtime} at {program} does not start: {error}", maybe=False) from None
    text = ".".join(str(number) for number in version)
    identity = f"{text} {interface} {platform.machine()} {executable}"
    return Interpreter(Path(executable).resolve(), Path(prefix).resolve(), text, identity)


def _elsewhere(wanted: str, runtime: str) -> Path:
    try:
        outcome = run_installer(["python", "find", "--no-project", wanted], timeout_s=20)
    except OsirisError as error:
        raise Unavailable(f"{runtime} can't be looked for: {error.what}", fix=error.fix, maybe=False) from None
    if outcome.code:
        raise Unavailable(
            f"{runtime} is not installed on this node",
            fix=f"install Python {wanted} there, or deploy for another runtime",
            maybe=False,
        )
    return Path(outcome.output.decode().strip()).resolve()


def environment_key(lock: bytes, interpreter: Interpreter) -> str:
    """Return the name of the environment that ``lock`` makes for an interpreter."""
    return sha256(sha256(lock).digest() + interpreter.identity.encode()).hexdigest()
