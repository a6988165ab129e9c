"""Locking dependencies: from what an author asks for to exact versions with hashes, for every platform at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.runtime.installer import run_installer
from osiris_mesh.runtime.lockfile import check_lock

__all__ = ["check_requirements", "lock_dependencies"]

_MAX_REQUIREMENTS: Final = 500


def check_requirements(requirements: Sequence[str]) -> list[str]:
    """Return the requirements, one by one in their usual spelling, sorted.

    Raises:
        UsageError: One that does not parse, or names a place instead of a version: it could not be locked with a hash.
    """
    if len(requirements) > _MAX_REQUIREMENTS:
        raise UsageError(f"{len(requirements)} dependencies are more than {_MAX_REQUIREMENTS}")
    checked: set[str] = set()
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"the dependency {text!r} does not parse: {reason}", fix='write "name>=1.2"') from None
        if requirement.url:
            raise UsageError(
                f"the dependency {text!r} names a place instead of a version",
                fix="depend on a version in a package index, or put the code into the function's own folder",
            )
        checked.add(str(requirement))
    return sorted(checked)


def lock_dependencies(
    requirements: Sequence[str], python: str, *, timeout_s: float = 180.0, prefer: bytes = b""
) -> bytes:
    """Resolve dependencies to a lock; asks the package index, blocks.

    Args:
        requirements: What the author wrote (PEP 508).
        python: Lowest Python it must work on, such as ``3.11``.
        timeout_s: Seconds after which it is given up.
        prefer: An earlier lock whose versions are kept where they still fit, so that deploying unchanged code again
            gives the same bundle.

    Returns:
        The lock; empty if there are no requirements.

    Raises:
        UsageError: A requirement nobody can meet; the text names it and quotes the installer.
        DeadlineExceeded: The index did not answer in time.
        Unavailable: The installer is missing.
    """
    asked = check_requirements(requirements)
    if not asked:
        return b""
    with TemporaryDirectory(prefix="osiris-lock-") as folder:
        earlier = Path(folder) / "lock.txt"
        earlier.write_bytes(prefer)
        outcome = run_installer(
            [
                "pip",
                "compile",
                "--universal",
                "--generate-hashes",
                "--no-emit-index-url",
                "--no-header",
                "--no-annotate",
                # A source distribution would have to be built, on every node: that is running somebody's code.
                "--only-binary=:all:",
                f"--python-version={python}",
                f"--python={sys.executable}",
                f"--output-file={earlier}",
                "--quiet",
                "-",
            ],
            stdin="\n".join(asked).encode() + b"\n",
            timeout_s=timeout_s,
        )
        lock = earlier.read_bytes()
    if outcome.code:
        raise UsageError(
            f"the dependencies can't be locked: {_culprit(asked, outcome.words)}: {outcome.words}",
            fix=_fix(outcome.words),
        )
    try:
        check_lock(lock)
    except RemoteProtocolError as error:
        raise UsageError(f"the dependencies can't be locked with hashes: {error.what}") from None
    return lock


def _culprit(asked: Sequence[str], words: str) -> str:
    """Return the requirements the installer's words speak of, or all of them."""
    spoken = re.sub(r"[-_.]+", "-", words).lower()
    named = [text for text in asked if re.sub(r"[-_.]+", "-", Requirement(text).name).lower() in spoken]
    return ", ".join(repr(text) for text in named or asked)


def _fix(words: str) -> str:
    """Say what to do: the installer's words tell whether it could ask at all."""
    lowered = words.lower()
    if any(sign in lowered for sign in ("certificate", "connect", "dns", "timed out", "failed to fetch")):
        return (
            "check the network and the package index; SSL_CERT_FILE, proxies and UV_* are taken from where you deploy"
        )
    return "correct the requirement; only packages with wheels can be used"
