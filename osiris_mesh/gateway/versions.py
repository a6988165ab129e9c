"""Which version a deployment gets, when the node that is asked chooses it.

A bundle's digest covers its version, so "the same code" means: built as that version, it has that version's digest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from osiris_mesh.errors import Conflict
from osiris_mesh.function.name import Version
from osiris_mesh.gateway.building import FIRST_VERSION
from osiris_mesh.ledger.state import State
from osiris_mesh.runtime.bundle import Bundle

__all__ = ["Choice", "Variants", "choose"]

_TRIES: Final = 256


class Variants:
    """One bundle as any version.

    Args:
        built: The bundle.
    """

    def __init__(self, built: Bundle) -> None:
        self._built = built
        self._made = {built.spec.version: built}
        self.name = built.spec.name

    async def of(self, version: str) -> Bundle:
        """Return it as this version; made in a thread, because all of it is hashed."""
        if version not in self._made:
            self._made[version] = await asyncio.to_thread(_as, self._built, version)
        return self._made[version]


def _as(built: Bundle, version: str) -> Bundle:
    spec = replace(built.spec, version=version)
    return Bundle.make(spec, built.files, lock=built.lock, tests=built.tests, roots=built.roots)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be deployed.

    Attributes:
        bundle: Built as the version chosen.
        changed: There is something to do.
    """

    bundle: Bundle
    changed: bool


async def choose(state: State, variants: Variants, wanted: str | None) -> Choice:
    """Choose the version wanted, or the active one if nothing changed, else the next free patch.

    Args:
        state: The ledger's state.
        variants: What is deployed.
        wanted: The version asked for, or None.

    Raises:
        Conflict: The wanted version is there with other code, or no version near is free.
    """
    name = variants.name
    record = state.functions.get(name)
    digests = {} if record is None else {key: each.spec.digest for key, each in record.versions.items()}
    active = None if record is None else record.active
    if wanted is not None:
        bundle = await variants.of(wanted)
        if digests.get(wanted, bundle.digest) != bundle.digest:
            raise Conflict(
                f"version {wanted} of {name} is there with other code, and a version never changes",
                fix="give it a new version",
                version=wanted,
            )
        return Choice(bundle, wanted not in digests or active != wanted)
    if active is not None and digests[active] == (same := await variants.of(active)).digest:
        return Choice(same, changed=False)
    version = str(max(map(Version.parse, digests)).next_patch()) if digests else FIRST_VERSION
    for _ in range(_TRIES):
        # A removed function's numbers stay taken: they never mean other code again.
        gone = state.tombs.get((name, version))
        bundle = await variants.of(version)
        if gone in {None, bundle.digest}:
            return Choice(bundle, changed=True)
        version = str(Version.parse(version).next_patch())
    raise Conflict(f"{name} has no free version near {version}", fix="give one")
