"""A registry's keys and lines, made in a few words."""

from __future__ import annotations

from typing import Any

from osiris_mesh.function.name import FunctionName
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_keys, found_root
from osiris_mesh.registry.keys import Delegation
from osiris_mesh.registry.record import Amendment, Binding, Provider, sign
from osiris_mesh.registry.statement import Statement
from osiris_mesh.registry.trust import Trust

NOW = 1_700_000_000_000
YEAR = 365 * 86_400_000
REGISTRY = "0f" * 16
NAME = FunctionName("acme.com", "image", "sharpen")


def key(number: int) -> KeyPair:
    """Return the same key for the same number."""
    return KeyPair(number.to_bytes(32, "big"))


ROOT_KEYS = [key(1), key(2), key(3)]
VENDOR_KEY = key(10)
STRANGER = key(666)


def delegation(*keys: KeyPair, threshold: int = 1) -> Delegation:
    """Return a delegation to these keys."""
    return Delegation(tuple(sorted(item.public.hex() for item in keys)), threshold)


def root(**more: Any) -> Statement:
    """Return a root, two of three, that delegates acme.com and the names without a vendor to one key."""
    given = {
        "threshold": 2,
        "keys": [ROOT_KEYS[2].public],
        "expires_ms": NOW + YEAR,
        "delegations": {"acme.com": delegation(VENDOR_KEY), "_": delegation(VENDOR_KEY)},
    }
    return found_root(ROOT_KEYS[:2], **{**given, **more})


def trusting(*, vendor: Statement | None = None) -> Trust:
    """Return trust in that root, with the keys of acme.com accepted."""
    trust = Trust(root().digest)
    trust.accept_config(Config(REGISTRY))
    trust.accept_roots([root()], NOW)
    trust.accept_keys("acme.com", [vendor or found_keys("acme.com", [VENDOR_KEY])], NOW)
    return trust


def history(*said: dict[str, Any], keys: list[KeyPair] | None = None, name: FunctionName = NAME) -> list[Statement]:
    """Return signed lines; a map with ``version`` alone or with a digest is a binding, any other an amendment."""
    lines: list[Statement] = []
    for sequence, fields in enumerate(said, 1):
        place: dict[str, Any] = {
            "name": str(name),
            "sequence": sequence,
            "previous": lines[-1].digest.hex() if lines else "",
        }
        is_binding = not fields.keys() & {"deprecated", "providers", "aliases"}
        line: Binding | Amendment = (
            Binding(**{"digest": "ab" * 32, **place, **fields}) if is_binding else Amendment(**place, **fields)
        )
        lines.append(sign(line, keys or [VENDOR_KEY]))
    return lines


def provider(name: str = "acme", **more: Any) -> Provider:
    """Return a provider."""
    return Provider(**{"id": name, "endpoint": f"https://{name}.example/call", **more})
