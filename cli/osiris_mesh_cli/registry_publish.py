"""``registry publish``: records of functions, signed and published.

No controller is needed: a pipeline has none. Only the registry in the ledger is reached through one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from osiris_mesh.errors import CheckFailed, Conflict, NotFound, UsageError
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
from osiris_mesh_cli.registry_place import Opened, Way, denied, opened, run, signers
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.values import seconds

if TYPE_CHECKING:
    from osiris_mesh.identity.keys import KeyPair
    from osiris_mesh.registry.publishing import Terms
    from osiris_mesh.registry.record import Binding, Provider, Record
    from osiris_mesh.runtime.bundle import Bundle

app = noun("Publishing.")

T = TypeVar("T")
_TRIES: Final = 8

ProviderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--provider", metavar="[ID=]URL", help="Who runs it: https://, mcp:// or mesh://; several may be given."
    ),
]
CostOption = Annotated[int, typer.Option("--cost", metavar="MICROS", help="Cost of a call, in millionths.")]
CurrencyOption = Annotated[str, typer.Option("--currency", metavar="CODE", help="Of the cost, like EUR.")]
RegionOption = Annotated[str, typer.Option("--region", metavar="NAME", help="Where the providers run it.")]


@command(
    app,
    example="registry publish ./functions/add_numbers.py --to file:///srv/registry --namespace math --key owner\n"
    "registry publish ./text/words.py::tokens --to team --version 1.2.0 --dry-run",
)
def publish(
    session: Session,
    path: Annotated[str, typer.Argument(metavar="PATH[::FUNCTION]", help="A Python file or a folder.")],
    to: ToOption,
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    version: Annotated[
        str, typer.Option("--version", metavar="X.Y.Z", help="Semantic version; the next patch if not given.")
    ] = "",
    namespace: Annotated[
        str,
        typer.Option("--namespace", metavar="NAME", help="Namespace, or vendor.com/namespace; else the folder's name."),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Its name; with several functions their namespace.")
    ] = "",
    provider: ProviderOption = None,
    cost: CostOption = 0,
    currency: CurrencyOption = "",
    region: RegionOption = "",
    require_level: Annotated[
        str, typer.Option("--require-level", metavar="pure|controlled|full", help="Least security context it needs.")
    ] = "",
    require_permission: Annotated[
        list[str] | None, typer.Option("--require-permission", metavar="NAME", help="Permission a caller must hold.")
    ] = None,
    trust_provider: Annotated[
        list[str] | None, typer.Option("--trust-provider", metavar="PATTERN", help="Providers that may serve it.")
    ] = None,
    scope: Annotated[
        str, typer.Option("--scope", metavar="local|regional|global", help="How far its record may be cached.")
    ] = "",
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="How long an answer may be kept.")] = "",
    valid_for: Annotated[str, typer.Option("--valid-for", metavar="TIME", help="When the record ends.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be published, and sign nothing.")] = False,
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Publish the record of a file's function, or of all its public ones, signed; the code itself stays where it is.

    The same once more changes nothing. The key is --key, --key-file, $OSIRIS_SIGNING_KEY or the home's user key.
    Without --provider a mesh in which it is deployed runs it.
    """
    from osiris_mesh.registry.publishing import Terms  # noqa: PLC0415 - only a publication needs it
    from osiris_mesh.registry.record import SCHEMES  # noqa: PLC0415

    terms = Terms(
        providers=providers_of(provider, cost, currency, region, SCHEMES),
        level=require_level,
        permissions=tuple(require_permission or ()),
        trusted=tuple(trust_provider or ()),
        scope=scope,
        ttl_s=_whole(ttl, "--ttl", 1),
        valid_for_ms=_whole(valid_for, "--valid-for", 1000),
    )
    build = _builder(session, path, name, namespace)
    bundles = build(version or None)
    keys = [] if dry_run else signers(session, key or (), key_file)
    way = Way(to, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
    with session.busy(f"publishing to {to}"):
        value = run(_publish(session, way, bundles, build, terms, version, keys, dry_run=dry_run))
    first = value["functions"][0]
    session.result({**(first if len(value["functions"]) == 1 else {}), **value}, lambda: _published_text(value))
    if dry_run:
        session.say("nothing was signed: --dry-run")
        session.next(f"registry publish {path} --to {to}")
    else:
        session.next(
            f"registry show {first['name']}", f"registry deprecate {first['name']}@{first['version']} WHY --to {to}"
        )


# --- what they have in common ---------------------------------------------------------------------------------------


async def _publish(
    session: Session,
    way: Way,
    bundles: list[Bundle],
    build: Callable[[str | None], list[Bundle]],
    terms: Terms,
    wanted: str,
    keys: Sequence[KeyPair],
    *,
    dry_run: bool,
) -> dict[str, Any]:
    from osiris_mesh.function.name import FunctionName  # noqa: PLC0415 - only a publication needs them

    names = [FunctionName.parse(bundle.spec.name) for bundle in bundles]
    async with opened(session, way) as place:
        await place.look({name.vendor for name in names})
        floors: dict[str, str] = {}
        for attempt in range(_TRIES):
            records = [await _record(place, str(name)) for name in names]
            said = _bindings(bundles, build, records, terms, wanted, floors)
            if dry_run:
                fresh = [_is_new(one, record) for one, record in zip(said, records, strict=True)]
                return _answer(place, said, fresh, tag="")
            try:
                done = await permitted(place.registry.publish(said, keys))
            except Conflict as error:
                # Somebody took the number a moment before; a number asked for is nobody else's.
                if wanted or "digest" not in error.details or attempt + 1 == _TRIES:
                    raise
                floors = {one.name: one.version for one in said}
                await place.look()
                continue
            written = {(one.payload.get("name"), one.payload.get("version")) for one in done.statements}
            return _answer(place, said, [(one.name, one.version) in written for one in said], tag=done.tag)
    raise Conflict("others published the same functions again and again", fix="give a version with --version")


def _bindings(
    bundles: Sequence[Bundle],
    build: Callable[[str | None], list[Bundle]],
    records: Sequence[Record | None],
    terms: Terms,
    wanted: str,
    floors: dict[str, str],
) -> list[Binding]:
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only a publication needs them
    from osiris_mesh.function.name import Version  # noqa: PLC0415
    from osiris_mesh.registry.publishing import binding_of, chosen_version, settled  # noqa: PLC0415

    said: list[Binding] = []
    for place, (bundle, record) in enumerate(zip(bundles, records, strict=True)):
        made = {bundle.spec.version: bundle}

        def built_as(version: str, made: dict[str, Bundle] = made, place: int = place) -> Bundle:
            if version not in made:
                made[version] = build(version)[place]
            return made[version]

        def digest_as(version: str, built: Callable[[str], Bundle] = built_as) -> bytes:
            return built(version).digest

        version = wanted or chosen_version(record, digest_as)
        if (floor := floors.get(bundle.spec.name)) is not None and Version.parse(version) <= Version.parse(floor):
            version = str(Version.parse(floor).next_patch())
        one = built_as(version)
        said.append(settled(binding_of(one.spec, one.digest, terms, SYSTEM.time_ms()), record))
    return said


def _builder(session: Session, path: str, name: str, namespace: str) -> Callable[[str | None], list[Bundle]]:
    """Return what builds the functions as some version; dependencies are locked once."""
    from osiris_mesh.registry.publishing import FIRST_VERSION  # noqa: PLC0415 - only a publication builds
    from osiris_mesh.runtime.build import build_bundles  # noqa: PLC0415
    from osiris_mesh.runtime.lock import lock_dependencies  # noqa: PLC0415

    locks: dict[tuple[tuple[str, ...], str], bytes] = {}

    def lock(requirements: Sequence[str], python: str) -> bytes:
        asked = (tuple(requirements), python)
        if asked not in locks:
            with session.busy(
                f"locking {len(requirements)} {'dependency' if len(requirements) == 1 else 'dependencies'}"
            ):
                locks[asked] = lock_dependencies(requirements, python)
        return locks[asked]

    def build(version: str | None) -> list[Bundle]:
        try:
            return build_bundles(
                path, name=name or None, namespace=namespace or None, version=version or FIRST_VERSION, lock=lock
            )
        except NotFound as error:
            # A pipeline has to tell a wrong path from a registry that lacks something.
            raise UsageError(error.what, fix=error.fix) from None

    return build


async def _record(place: Opened, name: str) -> Record | None:
    try:
        return (await place.registry.lookup(name)).record
    except NotFound:
        return None
    except CheckFailed as error:
        raise denied(error) from None


async def permitted(publication: Awaitable[T]) -> T:
    """Carry out a publication; keys that may not are ``Denied``."""
    try:
        return await publication
    except CheckFailed as error:
        raise denied(error) from None


def _is_new(said: Binding, record: Record | None) -> bool:
    from osiris_mesh.function.name import Version  # noqa: PLC0415 - only a publication needs it

    return record is None or Version.parse(said.version) not in record.versions


def _answer(place: Opened, said: Sequence[Binding], changed: Sequence[bool], *, tag: str) -> dict[str, Any]:
    return {
        "source": place.entry.url,
        "registry": place.registry.trust.registry,
        "root": (place.registry.trust.pin or b"").hex(),
        "changed": any(changed),
        "tag": tag,
        "age": 0,
        "stale": place.registry.stale,
        "functions": [
            {
                "name": one.name,
                "version": one.version,
                "digest": one.digest,
                "changed": new,
                "providers": [provider.payload() for provider in one.providers],
                "record": one.payload(),
            }
            for one, new in zip(said, changed, strict=True)
        ],
    }


def _published_text(value: dict[str, Any]) -> str:
    from osiris_mesh_cli.tables import clean  # noqa: PLC0415 - not worth its import elsewhere

    return "\n".join(
        clean(f"{one['name']} {one['version']}: {'published' if one['changed'] else 'there already'}, {one['digest']}")
        for one in value["functions"]
    )


def providers_of(
    given: Sequence[str] | None, cost: int, currency: str, region: str, schemes: frozenset[str]
) -> tuple[Provider, ...]:
    """Return the providers that options name, all on the same terms.

    Raises:
        UsageError: Something is wrong with one, or there are terms and no provider.
    """
    from osiris_mesh.registry.publishing import provider_of  # noqa: PLC0415 - only a publication needs it

    if not given:
        if cost or currency or region:
            raise UsageError("a cost and a region are a provider's", fix=f"give one: --provider {min(schemes)}://…")
        return ()
    return tuple(provider_of(text, cost_micros=cost, currency=currency, region=region) for text in given)


def _whole(text: str, option: str, units: int) -> int:
    """Return a time in ``units`` a second, rounded; 0 for none."""
    if not text:
        return 0
    value = round(seconds(text) * units)
    if value < 1:
        raise UsageError(f"{option} is {text!r}, which is no time", fix="write 10m, 12h or 30d")
    return value
