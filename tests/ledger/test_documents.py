"""The documents say what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from osiris_mesh.identity.api_token import ApiToken
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.authority import AUTHORS
from osiris_mesh.ledger.block import MAX_COMMAND, MAX_ENTRIES, Command, Header, block_hash, read_wire
from osiris_mesh.ledger.entry import MAX_ENTRY, Entry, entry_hash
from osiris_mesh.ledger.kinds import KINDS, ApiTokenCreate, ConfigSet, Genesis, RoleSet, admission
from osiris_mesh.ledger.merkle import tree_root
from osiris_mesh.ledger.replica import Replica
from osiris_mesh.settings.ledger import LedgerSettings
from tests.ledger.kit import Paper

ROOT = Path(__file__).parents[2]
DESIGN = (ROOT / "osiris_mesh/ledger/DESIGN.md").read_text("utf-8")
PROTOCOL = (ROOT / "docs/protocol/ledger.md").read_text("utf-8")
VECTORS = {
    name: bytes.fromhex(value) for name, value in re.findall(r"^    (\w+) = ([0-9a-f]+)$", PROTOCOL, re.MULTILINE)
}


def test_the_table_of_authors_is_the_codes() -> None:
    rows = re.findall(r"^\| `([a-z]+(?:\.[a-z]+)?)` \| ([^|]+) \| ([^|]+) \|", DESIGN, re.MULTILINE)
    written = {kind: (body.strip(), who.strip()) for kind, body, who in rows}
    coded = {
        kind: (", ".join(item.name for item in fields(KINDS[kind])), str(rule))  # type: ignore[arg-type]
        for kind, rule in AUTHORS.items()
    }
    assert written == coded


def test_every_file_of_the_part_is_named() -> None:
    files = {path.name for path in (ROOT / "osiris_mesh/ledger").glob("*.py")} - {"__init__.py"}
    assert files == set(re.findall(r"`(\w+\.py)`", DESIGN.split("Cores without")[0]))


def test_bounds_and_methods_are_the_codes() -> None:
    settings = LedgerSettings()
    for number in (MAX_ENTRY, MAX_COMMAND, MAX_ENTRIES, settings.pull_blocks, settings.pull_bytes >> 10):
        assert str(number) in PROTOCOL


def test_the_vectors_of_entries() -> None:
    founder, admin = KeyPair(VECTORS["founder_seed"]), KeyPair(VECTORS["admin_seed"])
    assert (founder.public, admin.public) == (VECTORS["founder_public"], VECTORS["admin_public"])
    paper = Paper(VECTORS["mesh_id"])
    body = Genesis("vectors", [[founder.public, "one", ["/ip4/192.0.2.1/tcp/7411"]]], admin.public, "ada")
    first = paper.entry(body, founder, nonce=bytes(16))
    second = paper.entry(ConfigSet("invoke.max_retries", "3"), admin, nonce=b"\1" * 16)
    for at, made in ((1, first), (2, second)):
        assert (made.bytes, made.hash) == (VECTORS[f"entry_{at}"], VECTORS[f"entry_{at}_hash"])
        assert Entry.parse(made.bytes).holds()
    assert entry_hash(VECTORS["entry_3"]) == VECTORS["entry_3_hash"]


def test_the_vectors_of_roles_and_api_tokens() -> None:
    admin, token = KeyPair(VECTORS["admin_seed"]), ApiToken(b"\4" * 32)
    paper = Paper(VECTORS["mesh_id"])
    grants = ["function.deploy:team-a/*", "mesh.read"]
    role = paper.entry(RoleSet("team-a", grants), admin, nonce=b"\2" * 16)
    body = ApiTokenCreate(token.key.public, admin.public, "ci", grants[:1], 1_800_000_000_000)
    created = paper.entry(body, admin, nonce=b"\3" * 16)
    assert (role.bytes, role.hash) == (VECTORS["entry_role"], VECTORS["entry_role_hash"])
    assert (created.bytes, created.hash) == (VECTORS["entry_api_token"], VECTORS["entry_api_token_hash"])
    assert token.text().encode() == VECTORS["api_token_text_ascii"]
    paper.must(Genesis("vectors", [[admin.public, "one", []]], admin.public, "ada"), admin)
    block = paper.command([role.bytes, created.bytes])
    assert block is not None
    assert [outcome.code for outcome in block.outcomes] == ["", ""]
    assert paper.state.principal(token.key.public, 0).may("function.deploy", "team-a/add")


def test_the_vectors_of_blocks() -> None:
    replica = Replica(VECTORS["mesh_id"])
    for at in (1, 2):
        block = replica.apply(1, at, VECTORS[f"command_{at}"])
        assert block is not None
        assert (read_wire(block.wire)[0], block.hash) == (VECTORS[f"header_{at}"], VECTORS[f"block_{at}_hash"])
        assert block_hash(VECTORS[f"header_{at}"]) == VECTORS[f"block_{at}_hash"]
        command = Command.from_wire(VECTORS[f"command_{at}"])
        assert command.to_wire() == VECTORS[f"command_{at}"]
        assert [outcome.code for outcome in block.outcomes] == [[""], ["", "malformed"]][at - 1]
    hashes = [VECTORS[f"entry_{at}_hash"] for at in (1, 2, 3)]
    assert tree_root(hashes) == VECTORS["log_root_2"] == Header.from_wire(VECTORS["header_2"]).log_root


def test_the_vectors_of_an_admission() -> None:
    made = admission(
        VECTORS["mesh_id"],
        token=KeyPair(b"\2" * 32),
        joiner=KeyPair(b"\3" * 32),
        user=VECTORS["admin_public"],
        name="two",
        addresses=["/ip4/192.0.2.2/tcp/7411"],
    )
    assert made.token_signature == VECTORS["admission_token_signature"]
    assert made.signature == VECTORS["admission_joiner_signature"]
    assert made.holds(VECTORS["mesh_id"])
    assert not made.holds(bytes(16))


@pytest.mark.parametrize("preset", ["local", "lan", "wan", "test"])
def test_presets_pass_their_own_checks(preset: str) -> None:
    assert LedgerSettings.preset(preset).pull_blocks > 0
