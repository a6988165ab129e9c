"""API tokens for tests, made as the command line makes them: signed with the home's user key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osiris_mesh.clock import SYSTEM
from osiris_mesh.identity.api_token import ApiToken
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ApiTokenCreate, Body, UserAdd
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES
from osiris_mesh.node.options import MeshFile
from osiris_sdk import Mesh

HOUR_MS = 3_600_000


def sign(home: Path, body: Body, key: KeyPair | None = None) -> bytes:
    """Return an entry signed by the home's user, or by ``key``."""
    mesh = MeshFile.load(Home(home))
    assert mesh is not None
    signer = key or KeyPair.load(Home(home).user_key)
    return Entry.make(body.KIND, body.body(), signer, mesh.mesh_id, SYSTEM).bytes


def submit(home: Path, *bodies: Body, key: KeyPair | None = None) -> dict[str, Any]:
    """Put entries into the ledger; all must be accepted."""
    with Mesh.connect(home=home) as mesh:
        answer = mesh.request("ledger.submit", {"entries": [sign(home, body, key) for body in bodies]})
    assert all(outcome["accepted"] for outcome in answer["outcomes"]), answer
    return answer


def make_token(home: Path, name: str, grants: Sequence[str], *, ttl_ms: int = HOUR_MS) -> str:
    """Return an API token of the home's user with these grants."""
    token = ApiToken.generate()
    owner = KeyPair.load(Home(home).user_key).public
    expires = SYSTEM.time_ms() + ttl_ms
    submit(home, ApiTokenCreate(token.key.public, owner, name, sorted(grants), expires))
    return token.text()


def user_token(home: Path, user: KeyPair, name: str, grants: Sequence[str]) -> str:
    """Return an API token of a user, signed by himself."""
    token = ApiToken.generate()
    body = ApiTokenCreate(token.key.public, user.public, name, sorted(grants), SYSTEM.time_ms() + HOUR_MS)
    submit(home, body, key=user)
    return token.text()


def role_token(home: Path, role: str) -> str:
    """Return an API token that may what a built-in role may, of a new user who has that role."""
    user = KeyPair.generate()
    submit(home, UserAdd(user.public, f"a-{role}", role))
    return user_token(home, user, f"{role}-token", BUILT_IN_ROLES[role].texts)
