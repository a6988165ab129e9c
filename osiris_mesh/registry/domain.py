"""Proof that a vendor's prefix is the vendor's: what his domain says which keys may name functions after it.

Either of these, in the same words:

- a TXT record of ``_osiris.<domain>``: ``v=osiris1; k=ed25519; p=<key>``, one record a key; a record in several strings
  is their concatenation (RFC 7208, 3.3);
- ``https://<domain>/.well-known/osiris-registry`` (RFC 8615): the same, one key a line.

``p`` is the public key, 32 bytes in base64 or in hexadecimal. Unknown tags are passed over (as in RFC 6376, 3.2), so
that a later version can say more. The asking is in :mod:`osiris_mesh.registry.domain_fetch`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import CheckFailed, UsageError
from osiris_mesh.function.name import FunctionName

__all__ = [
    "MAX_DOCUMENT",
    "MAX_KEYS",
    "WELL_KNOWN",
    "Proof",
    "claim",
    "keys_of_document",
    "keys_of_texts",
    "prove",
    "question",
    "vendor_domain",
]

MAX_DOCUMENT: Final = 4096
"""Bytes the file may have."""
MAX_TEXT: Final = 1024
MAX_KEYS: Final = 16
"""Keys one domain may name; more is no list of keys but an attempt to have us check many."""
WELL_KNOWN: Final = "/.well-known/osiris-registry"
_VERSION: Final = "osiris1"
_KIND: Final = "ed25519"
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Proof:
    """What a domain was found to say.

    Attributes:
        domain: Whose.
        keys: Public keys it names, ascending.
        method: ``dns`` or ``well-known``.
        time_ms: When it was asked.
    """

    domain: str
    keys: tuple[bytes, ...]
    method: str
    time_ms: int


def vendor_domain(vendor: str) -> str:
    """Return a vendor's domain as DNS has it.

    Raises:
        UsageError: Not a vendor: no domain, without a dot, or not in ASCII (write such a name in punycode).
    """
    FunctionName.parse(f"{vendor}/namespace/name")
    if "." not in vendor:
        raise UsageError(f"{vendor!r} has no dot, so it is no domain", fix="a vendor looks like acme.com")
    return vendor


def question(domain: str) -> str:
    """Return the DNS name whose TXT records tell a domain's keys."""
    return f"_osiris.{domain}."


def claim(key: bytes) -> str:
    """Return what a domain has to say for a key: the text of its TXT record, or a line of its file."""
    return f"v={_VERSION}; k={_KIND}; p={base64.b64encode(key).decode('ascii')}"


def keys_of_texts(texts: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the keys that TXT records tell, ascending; records about other things are passed over.

    Args:
        texts: One for each record, its strings joined.
    """
    found: set[bytes] = set()
    for text in texts:
        key = _key_of(text)
        if key is not None:
            found.add(key)
            if len(found) >= MAX_KEYS:
                break
    return tuple(sorted(found))


def keys_of_document(data: bytes) -> tuple[bytes, ...]:
    """Return the keys that the well-known file tells, ascending; other lines are passed over."""
    return keys_of_texts(data[:MAX_DOCUMENT].splitlines())


def prove(domain: str, key: bytes, proof: Proof | None) -> Proof:
    """Return the proof that ``domain`` names ``key``.

    Raises:
        CheckFailed: It does not; the error says what has to be published, and where.
    """
    if proof is not None and key in proof.keys:
        return proof
    told = "names other keys" if proof is not None and proof.keys else "names no key"
    raise CheckFailed(
        f"{domain} {told} for functions",
        fix=f"publish the TXT record {claim(key)!r} at {question(domain)}, or that line at https://{domain}{WELL_KNOWN}",
        domain=domain,
    )


def _key_of(text: bytes) -> bytes | None:
    if len(text) > MAX_TEXT:
        return None
    tags: dict[str, str] = {}
    for part in text.decode("ascii", "replace").split(";"):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals:
            if part.strip():
                return None
            continue
        if name in tags:
            return None
        tags[name] = value.strip()
    if tags.get("v") != _VERSION or tags.get("k", _KIND) != _KIND:
        return None
    return _key(tags.get("p", ""))


def _key(text: str) -> bytes | None:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * _KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if len(key) == _KEY_BYTES else None
