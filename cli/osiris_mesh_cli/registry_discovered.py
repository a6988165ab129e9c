"""Records of what a provider was found to offer, published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from osiris_mesh.errors import CheckFailed, NotFound
from osiris_mesh.function.name import FunctionName, Version, qualified
from osiris_mesh.registry.providers.endpoint import Capability
from osiris_mesh.registry.publishing import FIRST_VERSION, provider_of, settled
from osiris_mesh.registry.record import Binding, Record
from osiris_mesh_cli.registry_place import Way, denied, opened
from osiris_mesh_cli.session import Session

if TYPE_CHECKING:
    from osiris_mesh.identity.keys import KeyPair

__all__ = ["discovered", "publish_found", "server_of"]


def discovered(said: Binding, record: Record | None, wanted: str) -> Binding:
    """Return what is to be bound of something found: what is bound already if it is the same, or the next version.

    Args:
        said: What was found, as any version.
        record: The name as it stands; None: it is new.
        wanted: The version asked for; empty: found here.

    Raises:
        Conflict: The version asked for is bound, to something else.
    """
    if wanted:
        return settled(replace(said, version=str(Version.parse(wanted))), record)
    if record is None or not record.versions:
        return replace(said, version=FIRST_VERSION)
    newest = max(record.versions)
    bound = record.versions[newest].binding
    if replace(said, version=str(newest), sequence=bound.sequence, previous=bound.previous) == bound:
        return bound
    return replace(said, version=str(newest.next_patch()))


def server_of(endpoint: str) -> str:
    """Return where a provider is called whose description is at ``endpoint``.

    Operations of OpenAPI are below the host's root unless the description says otherwise; tools of MCP are called where
    they were listed.
    """
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in {"https", "http"} else endpoint


async def publish_found(
    session: Session,
    way: Way,
    provider: str,
    found: Sequence[Mapping[str, Any]],
    *,
    namespace: str,
    version: str,
    keys: Sequence[KeyPair],
) -> dict[str, Any]:
    """Publish records of capabilities, as the controller told them; return ``{source, changed, functions}``.

    Raises:
        OsirisError: Something is wrong with them, the keys may not, or the registry can't be reached.
    """
    who = provider_of(provider)
    made = [
        (
            str(one["reference"]),
            Capability(
                str(one["reference"]),
                str(one["name"]),
                str(one["description"]),
                str(one["digest"]),
                one["signature"],
                str(one.get("schema", "")),
            ).binding(qualified(f"{namespace}/{one['name']}"), version or FIRST_VERSION, who),
        )
        for one in found
    ]
    async with opened(session, way) as place:
        await place.look({FunctionName.parse(said.name).vendor for _, said in made})
        bindings: list[Binding] = []
        try:
            for _, said in made:
                try:
                    record = (await place.registry.lookup(said.name)).record
                except NotFound:
                    record = None
                bindings.append(discovered(said, record, version))
            done = await place.registry.publish(bindings, keys)
        except CheckFailed as error:
            raise denied(error) from None
        written = {(one.payload.get("name"), one.payload.get("version")) for one in done.statements}
        return {
            "source": place.entry.url,
            "changed": done.changed,
            "functions": [
                {
                    "reference": reference,
                    "name": one.name,
                    "version": one.version,
                    "changed": (one.name, one.version) in written,
                    "record": one.payload(),
                }
                for (reference, _), one in zip(made, bindings, strict=True)
            ],
        }
