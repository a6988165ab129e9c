"""Statements as ``registry keys`` reads, shows and hands them out, and keys as its options name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.errors import Conflict, OsirisError, UsageError
from osiris_mesh_cli.registry_place import key_folder
from osiris_mesh_cli.session import Session
from osiris_mesh_cli.tables import pairs, time_text

if TYPE_CHECKING:
    from osiris_mesh.registry.keys import Delegation, Publisher
    from osiris_mesh.registry.statement import Statement

__all__ = [
    "changed_keepers", "delegations_of", "digest_of_text", "hand_out", "must_be_none", "public_of", "publics_of",
    "publishers_of", "some_keepers", "statement_of", "statement_text", "what_said",
]  # fmt: skip

_MAX_FILE: Final = 1 << 20
_HEX: Final = frozenset("0123456789abcdef")


def statement_of(file: str) -> Statement:
    """Return the statement a file holds; the last one of a history."""
    from osiris_mesh.registry.statement import read  # noqa: PLC0415 - only what reads statements needs it

    path = Path(file).expanduser()
    try:
        if path.stat().st_size > _MAX_FILE:
            raise UsageError(f"{path} is too large to be a statement")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    lines = data.strip().splitlines()
    if not lines:
        raise UsageError(f"{path} is empty")
    try:
        return read(lines[-1])
    except OsirisError as error:
        raise UsageError(f"{path}: {error.what}") from None


def hand_out(session: Session, said: Statement, out: str) -> None:
    """Write a statement, and say what it says."""
    from osiris_mesh.registry.keyring import show as shown  # noqa: PLC0415 - only who signs needs it

    value = {**shown(said), "file": out or None, "line": said.line.decode()}
    if out:
        try:
            Path(out).expanduser().write_bytes(said.line + b"\n")
        except OSError as error:
            raise Conflict(f"{out} can't be written: {error.strerror}") from None
        session.result(value, lambda: statement_text(value))
        session.next(f"registry keys sign {out} --key NAME", f"registry keys publish {out} --to URL")
    else:
        session.result(value, said.line.decode())


def statement_text(value: dict[str, Any]) -> str:
    """Return what :func:`osiris_mesh.registry.keyring.show` gave, for people."""
    facts: list[tuple[str, object]] = [
        ("registry", value.get("source")),
        ("pin", value.get("pin")),
        ("what", what_of(value["type"], value)),
        ("version", value.get("version")),
        ("digest", value["statement"]),
        ("threshold", value.get("threshold")),
        ("expires", time_text(value["expires_ms"]) if value.get("expires_ms") else None),
    ]
    facts += [("keeper", key) for key in value.get("keys", ())]
    facts += [("publisher", f"{one['key']} {','.join(one['namespaces'])}") for one in value.get("publishers", ())]
    facts += [
        ("delegates", f"{vendor} to {','.join(one['keys'])} ({one['threshold']} of {len(one['keys'])})")
        for vendor, one in value.get("delegations", {}).items()
    ]
    facts += [("checkpoints by", key) for key in value.get("checkpoint_keys", ())]
    facts += [("revoked key", key) for key in value.get("revoked_keys", ())]
    facts += [("revoked record", digest) for digest in value.get("revoked_records", ())]
    facts += [("signed by", key) for key in value["signed_by"]]
    return pairs(facts)


def what_said(said: Statement) -> str:
    """Return what a root or a vendor's keys are called: ``root 2``, ``keys of acme.com 1``."""
    return f"{what_of(said.kind, said.payload)} {said.payload.get('version')}"


def what_of(kind: str, payload: dict[str, Any]) -> str:
    """Return what a payload of a kind is called."""
    return "root" if kind == "root" else f"keys of {payload.get('vendor')}" if kind == "keys" else kind


def some_keepers(keepers: list[Any]) -> list[Any]:
    """Return the keys that sign.

    Raises:
        UsageError: There is none.
    """
    if not keepers:
        raise UsageError("nobody signs", fix="give a key: --key NAME; see osiris-mesh registry keys list")
    return keepers


def must_be_none(**options: Sequence[str] | None) -> None:
    """Refuse options that change a version that is there where none is named.

    Raises:
        UsageError: One of them was given.
    """
    for name, value in options.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} changes a version that is there", fix="name it with --from or --at"
            )


def changed_keepers(
    session: Session, before: Iterable[str], more: Sequence[str] | None, fewer: Sequence[str] | None
) -> list[bytes] | None:
    """Return the new set of keepers; None if nothing was said about it."""
    if not more and not fewer:
        return None
    gone = {key.hex() for key in publics_of(session, fewer)}
    return [*(bytes.fromhex(key) for key in before if key not in gone), *publics_of(session, more)]


def public_of(session: Session, text: str) -> bytes:
    """Return a public key: 64 hexadecimal digits, or a key of this home by name."""
    if len(text) == 64 and _HEX.issuperset(text):
        return bytes.fromhex(text)
    return key_folder(session).get(text).public


def publics_of(session: Session, texts: Sequence[str] | None) -> list[bytes]:
    """Return public keys; see :func:`public_of`."""
    return [public_of(session, text) for text in texts or ()]


def digest_of_text(text: str) -> bytes:
    """Return the digest of a statement.

    Raises:
        UsageError: Not a digest.
    """
    if len(text) != 64 or not _HEX.issuperset(text):
        raise UsageError(f"{text[:70]!r} is not a digest", fix="it is 64 hexadecimal digits, lower case")
    return bytes.fromhex(text)


def delegations_of(session: Session, texts: Sequence[str]) -> dict[str, Delegation]:
    """Return delegations as ``acme.com=PUBLIC,PUBLIC:2`` says them.

    Raises:
        UsageError: Not that form.
    """
    from osiris_mesh.registry.keys import Delegation  # noqa: PLC0415 - only who signs needs it

    found: dict[str, Delegation] = {}
    for text in texts:
        vendor, equals, rest = text.partition("=")
        names, colon, count = rest.partition(":")
        if not vendor or not equals or not names or (colon and not (count.isascii() and count.isdigit())):
            raise UsageError(
                f"{text[:80]!r} is not a delegation", fix="write acme.com=PUBLIC, or acme.com=PUBLIC,PUBLIC:2"
            )
        publics = sorted({public_of(session, name).hex() for name in names.split(",")})
        found[vendor] = Delegation(tuple(publics), int(count) if colon else 1)
    return found


def publishers_of(session: Session, texts: Sequence[str]) -> list[Publisher]:
    """Return publishers as ``PUBLIC=math,text`` says them.

    Raises:
        UsageError: Not that form.
    """
    from osiris_mesh.registry.keys import Publisher  # noqa: PLC0415 - only who signs needs it

    found: list[Publisher] = []
    for text in texts:
        name, equals, spaces = text.partition("=")
        namespaces = tuple(sorted({space for space in spaces.split(",") if space})) if equals else ("*",)
        if not namespaces:
            raise UsageError(f"{text[:80]!r} names no namespace", fix="write PUBLIC=math,text, or PUBLIC for all")
        found.append(Publisher(public_of(session, name).hex(), namespaces))
    return found
