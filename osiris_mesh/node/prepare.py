"""What happens to a home before its controller runs: making a mesh, or keeping a token to join one with."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.token import Token
from osiris_mesh.node.options import MeshFile, NodeOptions, node_name, write_private

__all__ = ["create_mesh", "hold", "join_mesh", "pending_token"]

_SOCKET_PATH_MAX: Final = 100


def _token_file(home: Home) -> Path:
    return home.path / "keys" / "join.token"


@contextmanager
def hold(home: Home) -> Iterator[None]:
    """Hold the home: one process at a time uses it.

    Raises:
        Conflict: Another process holds it.
        UsageError: The folder's path is too long for a Unix socket in it.
    """
    if len(os.fsencode(home.socket)) > _SOCKET_PATH_MAX:
        raise UsageError(
            f"{home.path} is too long a path for a socket in it",
            fix=f"choose a home whose path has at most {_SOCKET_PATH_MAX - 14} bytes",
        )
    try:
        home.make()
        descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{home.path} can't be used: {error.strerror}", fix="choose another with --home") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                f"{home.path} is in use by a running controller", fix="stop it with: osiris-mesh stop"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _make_keys(home: Home) -> None:
    for path in (home.node_key, home.user_key):
        if not path.exists():
            KeyPair.generate().save(path)


def _refuse_member(home: Home) -> None:
    mesh = MeshFile.load(home)
    if mesh is not None:
        raise Conflict(
            f"{home.path} belongs to the mesh {mesh.name} already",
            fix="run it with: osiris-mesh start, or choose another --home",
        )


def create_mesh(home: Home, options: NodeOptions, name: str = "") -> None:
    """Make ``home`` the founder of a new mesh; its controller writes the genesis when it first runs.

    Args:
        home: An empty or not yet existing folder.
        options: Saved for every later start.
        name: Name of the mesh for people; made up from its id if empty.

    Raises:
        Conflict: The home is in use or belongs to a mesh.
        UsageError: An option is wrong.
    """
    options.check()
    if name:
        node_name(name)
    with hold(home):
        _refuse_member(home)
        _make_keys(home)
        mesh_id = secrets.token_bytes(16)
        write_private(home.network_key, secrets.token_bytes(32).hex() + "\n")
        _token_file(home).unlink(missing_ok=True)
        options.named(home).save(home)
        MeshFile(mesh_id, name or f"mesh-{mesh_id.hex()[:6]}", founder=True).save(home)


def join_mesh(home: Home, token_text: str, options: NodeOptions) -> None:
    """Keep a token in ``home``; its controller presents it to a member when it runs.

    Raises:
        Conflict: The home is in use or belongs to a mesh.
        UsageError: An option or the token is wrong, or the token has expired, or is a client's.
    """
    options.check()
    token = Token.parse(token_text)
    if token.role == "client":
        raise UsageError(
            "this is a client's token: it calls functions, a node can't join with it",
            fix="create one for a node with: osiris-mesh token create",
        )
    if token.expires_ms <= SYSTEM.time_ms():
        raise UsageError("the token has expired", fix="create a new one on a member with: osiris-mesh token create")
    with hold(home):
        _refuse_member(home)
        _make_keys(home)
        write_private(_token_file(home), token_text.strip() + "\n")
        options.named(home).save(home)


def pending_token(home: Home) -> Token | None:
    """Return the token this home is to join with, if any."""
    path = _token_file(home)
    return Token.parse(path.read_text("ascii")) if path.exists() else None


def forget_token(home: Home) -> None:
    """Remove the kept token: it was spent, or refused for good."""
    _token_file(home).unlink(missing_ok=True)
