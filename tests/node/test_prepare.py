"""Homes: made once, held by one process, refused with a reason."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.identity.token import Token
from osiris_mesh.node.options import MeshFile, NodeOptions
from osiris_mesh.node.prepare import create_mesh, forget_token, hold, join_mesh, pending_token


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "h")


def token(role: str = "voter", expires_in_ms: int = 60_000) -> str:
    issuer = KeyPair.generate()
    member = Multiaddr("127.0.0.1", 7411, peer_id(issuer.public))
    expires = SYSTEM.time_ms() + expires_in_ms
    return Token(b"m" * 16, b"k" * 32, role, "developer", b"s" * 32, 1, expires, (member,)).signed(issuer).text()


def test_a_new_mesh_has_keys_only_its_owner_reads(home: Home) -> None:
    create_mesh(home, NodeOptions(), "office")
    mesh = MeshFile.load(home)
    assert mesh is not None
    assert (mesh.name, mesh.founder, len(mesh.mesh_id)) == ("office", True, 16)
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    for path in (home.node_key, home.user_key, home.network_key, home.mesh_file, home.settings_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyPair.load(home.node_key).public != KeyPair.load(home.user_key).public


def test_options_come_back_as_they_were_saved(home: Home) -> None:
    options = NodeOptions(name="n1", listen="127.0.0.1:0", mdns=False, seeds=("127.0.0.1:1",), preset="local")
    create_mesh(home, options)
    assert NodeOptions.load(home) == options


def test_a_node_without_a_name_is_called_after_machine_and_home(home: Home) -> None:
    create_mesh(home, NodeOptions())
    assert NodeOptions.load(home).name.endswith("-h")


def test_a_home_belongs_to_one_mesh(home: Home) -> None:
    create_mesh(home, NodeOptions())
    with pytest.raises(Conflict, match="belongs to the mesh"):
        create_mesh(home, NodeOptions())
    with pytest.raises(Conflict, match="belongs to the mesh"):
        join_mesh(home, token(), NodeOptions())


def test_a_home_in_use_is_refused(home: Home) -> None:
    with hold(home), pytest.raises(Conflict, match="in use"):
        create_mesh(home, NodeOptions())
    create_mesh(home, NodeOptions())


def test_a_token_is_kept_until_it_is_spent(home: Home) -> None:
    text = token()
    join_mesh(home, text, NodeOptions())
    kept = pending_token(home)
    assert kept is not None
    assert kept.text() == text
    forget_token(home)
    assert pending_token(home) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (token(expires_in_ms=-1), "expired"),
        (token(role="client"), "client"),
        ("osm1AAAA", "damaged"),
        ("hello", "starts with osm1"),
        (token()[:-3] + "AAA", "damaged"),
    ],
)
def test_a_bad_token_is_refused_before_anything_is_written(home: Home, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        join_mesh(home, text, NodeOptions())
    assert not home.path.exists()


@pytest.mark.parametrize(
    "options",
    [
        NodeOptions(name="a b"),
        NodeOptions(listen="nowhere"),
        NodeOptions(preset="moon"),
        NodeOptions(seeds=("x/y",)),
    ],
)
def test_wrong_options_are_refused(home: Home, options: NodeOptions) -> None:
    with pytest.raises(UsageError):
        create_mesh(home, options)


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long"):
        create_mesh(Home(tmp_path / ("x" * 100)), NodeOptions())


@pytest.mark.parametrize("damage", ["", "[]", "{", json.dumps({"mesh_id": "zz"})])
def test_a_damaged_mesh_file_is_said_to_be_damaged(home: Home, damage: str) -> None:
    create_mesh(home, NodeOptions())
    home.mesh_file.write_text(damage)
    with pytest.raises(Conflict, match="damaged"):
        MeshFile.load(home)
