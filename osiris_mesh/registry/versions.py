"""Which version of a record a caller's reference means. A pure core.

A bare name means the latest version: the highest that is neither a pre-release nor deprecated, then the highest that is
no pre-release, then the highest. A range means the highest in it, deprecated ones only where there is no other. An
exact version or a label means what it says. A version outside its validity is none.
"""

from __future__ import annotations

from osiris_mesh.errors import NotFound
from osiris_mesh.function.name import Version
from osiris_mesh.function.reference import Reference
from osiris_mesh.registry.record import Record

__all__ = ["meant", "valid_until_ms"]

_SHOWN = 8


def meant(record: Record, wanted: Reference, now_ms: int) -> Version:
    """Return the version that is meant.

    Args:
        record: What holds for the name.
        wanted: What the caller wrote.
        now_ms: Wall clock.

    Raises:
        NotFound: There is none; the text says what there is.
    """
    now = {
        version: bound
        for version, bound in record.versions.items()
        if bound.binding.valid_from_ms <= now_ms < (bound.binding.valid_until_ms or now_ms + 1)
    }
    found: Version | None
    if wanted.label:
        found = record.aliases.get(wanted.label)
        found = found if found in now else None
    elif wanted.is_active:
        stable = [version for version in now if not version.pre]
        used = [version for version in stable if now[version].deprecated is None]
        found = max(used or stable or now, default=None)
    else:
        used = [version for version, bound in now.items() if bound.deprecated is None]
        found = wanted.highest(used) or wanted.highest(now)
    if found is None:
        raise _none(record, wanted, now_ms)
    return found


def valid_until_ms(record: Record, now_ms: int) -> int:
    """Return when something of a record begins or ends to be valid next, milliseconds of Unix time; 0: never."""
    times = [
        time
        for bound in record.versions.values()
        for time in (bound.binding.valid_from_ms, bound.binding.valid_until_ms)
        if time > now_ms
    ]
    return min(times, default=0)


def _none(record: Record, wanted: Reference, now_ms: int) -> NotFound:
    versions = [str(version) for version in record.versions]
    what = f"@{wanted.label}" if wanted.label else "what was asked for"
    if not versions:
        return NotFound(f"every version of {record.name} was revoked", name=record.name)
    if wanted.low is not None and wanted.low in record.versions:
        ended = record.versions[wanted.low].binding.valid_until_ms <= now_ms
        what = f"{wanted.low}, which is {'no longer' if ended else 'not yet'} valid"
        return NotFound(f"{record.name} has {what}", fix=f"there are {', '.join(versions[-_SHOWN:])}", name=record.name)
    labels = ", ".join(f"@{label}" for label in record.aliases)
    return NotFound(
        f"no version of {record.name} is {what}",
        fix=f"there are {', '.join(versions[-_SHOWN:])}{' and ' + labels if labels else ''}",
        name=record.name,
    )
