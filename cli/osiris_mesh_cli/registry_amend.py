"""``registry deprecate alias providers renew``: what is said of versions later; no controller is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from osiris_mesh.errors import CheckFailed, Conflict, UsageError
from osiris_mesh_cli.registry_options import (
    ApiOption,
    BranchOption,
    CaFileOption,
    GatewayOption,
    KeyFileOption,
    KeyOption,
    PinOption,
    TokenFileOption,
    ToOption,
)
from osiris_mesh_cli.registry_place import Opened, Way, opened, run, signers
from osiris_mesh_cli.registry_publish import (
    CostOption,
    CurrencyOption,
    ProviderOption,
    RegionOption,
    permitted,
    providers_of,
)
from osiris_mesh_cli.session import Session, command, noun

if TYPE_CHECKING:
    from osiris_mesh.identity.keys import KeyPair
    from osiris_mesh.registry.record import Amendment, Record
    from osiris_mesh.registry.registry import Published

app = noun("Amending.")

_TRIES: Final = 16

VersionedArgument = Annotated[
    str, typer.Argument(metavar="NAME@VERSION", help="namespace/name or vendor.com/namespace/name, and its version.")
]


@command(
    app,
    example="registry deprecate math/add_numbers@1.0.0 'use 1.0.1: it rounds' --to file:///srv/registry --key owner\n"
    "registry deprecate math/add_numbers@1.0.0 --undo --to file:///srv/registry --key owner",
)
def deprecate(
    session: Session,
    name: VersionedArgument,
    to: ToOption,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="Why, and what to use; callers are shown it.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="It is in use again.")] = False,
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Say of a version that it should not be used any more; it stays callable."""
    from osiris_mesh.registry.record import Amendment  # noqa: PLC0415 - only a publication needs it

    full, version = _versioned(name)
    if bool(message) == undo:
        raise UsageError(
            "--undo takes no message" if undo else "a deprecation says why",
            fix=f"osiris-mesh registry deprecate {name} 'use 2.0.0' --to {to}",
        )
    said = Amendment(name=full, sequence=1, version=version, deprecated=message)
    way = Way(to, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
    value = _amend(session, way, signers(session, key or (), key_file), full, lambda _: said)
    text = f"{full} {version}: {'in use again' if undo else 'deprecated'}"
    session.result({**value, "version": version, "deprecated": message or None}, _amended_text(value, text))
    session.next(f"registry show {full}")


@command(app, example="registry alias math/add_numbers stable=1.0.0 --to file:///srv/registry --key owner")
def alias(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="namespace/name or vendor.com/namespace/name.")],
    labels: Annotated[list[str], typer.Argument(metavar="LABEL=VERSION", help="LABEL= takes the label away.")],
    to: ToOption,
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Give versions labels, used as name@label; labels that are not named stay as they are."""
    from osiris_mesh.function.name import qualified  # noqa: PLC0415 - only a publication needs them
    from osiris_mesh.registry.publishing import aliased  # noqa: PLC0415

    full = qualified(name)
    changes: dict[str, str] = {}
    for text in labels:
        label, equals, version = text.partition("=")
        if not equals or not label:
            raise UsageError(f"{text[:80]!r} is not a label", fix="write stable=1.2.0, or stable= to take it away")
        changes[label] = version
    way = Way(to, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
    value = _amend(session, way, signers(session, key or (), key_file), full, lambda record: aliased(record, changes))
    shown = " ".join(f"{label}={version}" for label, version in value["aliases"].items())
    session.result(value, _amended_text(value, f"{full}: {shown or 'no labels'}"))
    session.next(f"registry show {full}")


@command(
    app,
    example="registry providers math/add_numbers@1.0.0 --provider https://eu.example.com --to team --key owner",
)
def providers(
    session: Session,
    name: VersionedArgument,
    to: ToOption,
    provider: ProviderOption = None,
    none: Annotated[bool, typer.Option("--none", help="Nobody in particular: a mesh in which it is deployed.")] = False,
    cost: CostOption = 0,
    currency: CurrencyOption = "",
    region: RegionOption = "",
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Say who runs a version from now on: the whole new list."""
    from osiris_mesh.registry.record import SCHEMES, Amendment  # noqa: PLC0415 - only a publication needs it

    full, version = _versioned(name)
    if bool(provider) == none:
        raise UsageError("give the providers, or --none", fix="--provider https://functions.example.com")
    said = Amendment(
        name=full, sequence=1, version=version, providers=providers_of(provider, cost, currency, region, SCHEMES)
    )
    way = Way(to, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
    value = _amend(session, way, signers(session, key or (), key_file), full, lambda _: said)
    shown = [one.payload() for one in said.providers or ()]
    text = f"{full} {version}: {', '.join(one['endpoint'] for one in shown) or 'a mesh in which it is deployed'}"
    session.result({**value, "version": version, "providers": shown}, _amended_text(value, text))
    session.next(f"registry show {full}")


@command(app, example="registry renew --to file:///srv/registry --key owner")
def renew(
    session: Session,
    to: ToOption,
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Sign the registry's checkpoint anew; it holds for 7 days, and every publication signs one too."""
    keys = signers(session, key or (), key_file)

    async def carry_out() -> dict[str, Any]:
        async with opened(session, Way(to, pin, branch, ca_file, token_file, tuple(gateway or ()), api)) as place:
            try:
                await place.look()
            except CheckFailed:
                # A head spoiled in the ledger is what this mends; anything else fails again below.
                if place.entry.kind != "ledger":
                    raise
            done = await permitted(place.registry.renew(keys))
            return {"source": place.entry.url, "changed": done.changed, "tag": done.tag}

    value = run(carry_out())
    session.result(value, f"{value['source']}: signed anew, for 7 days")
    session.next(f"registry keys show {to}")


# --- what they have in common ---------------------------------------------------------------------------------------


def _amend(
    session: Session, way: Way, keys: Sequence[KeyPair], name: str, said_of: Callable[[Record], Amendment]
) -> dict[str, Any]:
    """Publish an amendment of a name that is there."""
    from osiris_mesh.function.name import FunctionName  # noqa: PLC0415 - only a publication needs it

    async def carry_out() -> dict[str, Any]:
        async with opened(session, way, checkpoint_key=keys[0]) as place:
            await place.look([FunctionName.parse(name).vendor])
            done = await _amended(place, name, said_of, keys)
            after = (await place.registry.lookup(name)).record
            return {
                "name": name,
                "source": place.entry.url,
                "changed": done.changed,
                "tag": done.tag,
                "sequence": after.sequence,
                "aliases": {label: str(version) for label, version in after.aliases.items()},
                "record": done.statements[0].payload if done.statements else None,
            }

    with session.busy(f"publishing to {way.to}"):
        return run(carry_out())


async def _amended(
    place: Opened, name: str, said_of: Callable[[Record], Amendment], keys: Sequence[KeyPair]
) -> Published:
    """Publish what is said of a name as it stands; if it stands otherwise by then, what is said of it then."""
    from msgspec.structs import replace  # noqa: PLC0415 - only a publication needs them

    from osiris_mesh.registry.record import sign  # noqa: PLC0415

    for _ in range(_TRIES):
        record = (await permitted(place.registry.lookup(name))).record
        said = said_of(record)
        said = type(said).from_payload(said.payload())
        after = replace(said, sequence=record.sequence + 1, previous=record.digest.hex())
        try:
            return await permitted(place.registry.update(sign(after, keys)))
        except Conflict as error:
            if "sequence" not in error.details:
                raise
            await place.look()
    raise Conflict(f"others changed {name} again and again", fix="try again")


def _amended_text(value: dict[str, Any], text: str) -> str:
    return text if value["changed"] else f"{text} (it was so already)"


def _versioned(text: str) -> tuple[str, str]:
    from osiris_mesh.function.name import Version, qualified  # noqa: PLC0415 - only a publication needs it

    name, at, version = text.partition("@")
    if not at:
        raise UsageError(f"{text[:80]!r} names no version", fix=f"write {text[:80]}@1.2.0")
    return qualified(name), str(Version.parse(version))
