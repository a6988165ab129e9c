"""What several bodies share: entries a bearer signed himself, and texts with their bounds."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["Changed", "Entries", "FunctionText", "Grants", "KeyText", "NameText", "Signed", "Text", "VersionText"]

Entries = Annotated[
    list[str],
    Meta(
        min_length=1,
        max_length=64,
        description="Ledger entries (base64) the bearer signed himself, exactly those of this change; without them the "
        "gateway signs with the key of the API token.",
    ),
]
Text = Annotated[str, Meta(max_length=4096)]
NameText = Annotated[str, Meta(min_length=1, max_length=128)]
FunctionText = Annotated[str, Meta(min_length=1, max_length=384)]
VersionText = Annotated[str, Meta(min_length=1, max_length=128)]
KeyText = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Grants = Annotated[list[Annotated[str, Meta(min_length=1, max_length=512)]], Meta(max_length=64)]


class Signed(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a change that says all it has to say in its path."""

    entries: Entries | None = None


class Changed(Struct):
    """The change is in the ledger."""

    height: Annotated[int, Meta(description="Height of the block that records it.")]
