"""The vectors of docs/protocol/registry.md are what the code makes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from osiris_mesh.registry.checkpoint import Checkpoint, Config, proof, proves, root_of
from osiris_mesh.registry.history import join_lines
from osiris_mesh.registry.keyring import found_keys
from osiris_mesh.registry.layout import CONFIG, ROOT, keys_path, path_of
from osiris_mesh.registry.record import Amendment, Binding, sign
from osiris_mesh.registry.statement import Statement, read
from tests.registry.core.kit import NAME, NOW, REGISTRY, VENDOR_KEY, YEAR, provider, root

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol" / "registry.md"


def vectors() -> dict[str, str]:
    """Return every value the document's section on vectors holds."""
    keys = found_keys("acme.com", [VENDOR_KEY])
    binding = sign(
        Binding(
            str(NAME),
            "1.0.0",
            1,
            digest="ab" * 32,
            signature=([["image", 1, False, "bytes"], ["strength", 1, True, "float"]], "bytes"),
            description="Schärft ein Bild.",
            providers=(provider(cost_micros=1500, currency="EUR"),),
        ),
        [VENDOR_KEY],
    )
    amendment = sign(
        Amendment(str(NAME), 2, binding.digest.hex(), "1.0.0", "use 2", aliases={"stable": "1.0.0"}), [VENDOR_KEY]
    )
    files = {
        CONFIG: Config(REGISTRY, "Acme").to_bytes(),
        ROOT: join_lines([root()]),
        keys_path("acme.com"): join_lines([keys]),
        path_of(NAME): join_lines([binding, amendment]),
    }
    digests = {path: sha256(data).digest() for path, data in files.items()}
    checkpoint = sign(Checkpoint(REGISTRY, 1, root_of(digests).hex(), len(files), NOW, NOW + YEAR), [VENDOR_KEY])
    found = {"config.json": files[CONFIG].decode().strip()}
    said: list[tuple[str, Statement]] = [
        ("root", root()),
        ("keys", keys),
        ("binding", binding),
        ("amendment", amendment),
        ("checkpoint", checkpoint),
    ]
    for name, statement in said:
        assert read(statement.line) == statement
        found[f"{name} line"] = statement.line.decode()
        found[f"{name} digest"] = statement.digest.hex()
    found["amendment msgpack"] = amendment.to_wire().hex()
    for path in sorted(digests):
        found[f"SHA-256 of {path}"] = digests[path].hex()
    place, size, audit = proof(digests, path_of(NAME))
    assert size == 4
    assert proves(Checkpoint.from_payload(checkpoint.payload), path_of(NAME), digests[path_of(NAME)], place, audit)
    assert not proves(Checkpoint.from_payload(checkpoint.payload), path_of(NAME), b"\0" * 32, place, audit)
    found[f"audit path of place {place}"] = " ".join(item.hex() for item in audit)
    return found


def test_vectors() -> None:
    lines = DOCUMENT.read_text("utf-8").splitlines()
    for name, value in vectors().items():
        at = lines.index(f"    {name}:")
        assert lines[at + 1] == f"        {value}", name
