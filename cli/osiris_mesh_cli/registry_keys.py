"""``registry keys …``: making keys, and what their keepers sign.

Nothing here needs a controller or, but for ``publish``, ``show``, ``domain`` and ``--at``, a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from osiris_mesh.errors import CheckFailed, NotFound, OsirisError, UsageError
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
from osiris_mesh_cli.registry_place import SIGNING_KEY, Way, asker, denied, key_folder, opened, run, signers
from osiris_mesh_cli.registry_statements import (
    changed_keepers,
    delegations_of,
    digest_of_text,
    hand_out,
    must_be_none,
    public_of,
    publics_of,
    publishers_of,
    some_keepers,
    statement_of,
    statement_text,
    what_said,
)
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import pairs, table
from osiris_mesh_cli.values import seconds

if TYPE_CHECKING:
    from osiris_mesh.registry.statement import Statement

app = noun("Keys of registries: made, named in a root or a vendor's keys, signed offline, published.")


FromOption = Annotated[str, typer.Option("--from", metavar="FILE", help="File with the version before.")]
MaybeAtOption = Annotated[
    str, typer.Option("--at", metavar="URL|NAME", help="Registry to take the version before from.")
]
KeeperOption = Annotated[
    list[str] | None, typer.Option("--key", metavar="NAME", help="Key that signs now; several may be given.")
]
WithOption = Annotated[
    list[str] | None, typer.Option("--with", metavar="PUBLIC", help="Keeper who signs later; several may be given.")
]
DropOption = Annotated[
    list[str] | None, typer.Option("--drop", metavar="PUBLIC", help="Keeper who is none any more; several.")
]
ThresholdOption = Annotated[
    int, typer.Option("--threshold", metavar="N", help="Keepers who must sign; as before, or 1, if not given.")
]
RevokeKeyOption = Annotated[
    list[str] | None, typer.Option("--revoke-key", metavar="PUBLIC", help="Key nobody is to believe again; several.")
]
OutOption = Annotated[str, typer.Option("--out", metavar="FILE", help="Where it is written; stdout if not given.")]


@command(app, example="registry keys create owner\nregistry keys create ci --show")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is called here.")],
    show: Annotated[
        bool, typer.Option("--show", help="Print the secret itself, once: for the secret of a pipeline.")
    ] = False,
) -> None:
    """Make a key, as a file of this home that only its user can read."""
    key = key_folder(session).create(name)
    path = session.home.path / "keys" / "registry" / f"{name}.key"
    value = {"name": name, "public": key.public.hex(), "file": str(path)}
    if show:
        value["secret"] = key.seed.hex()
        session.say(f"a secret, shown this once: whoever has it signs as {name}; a pipeline takes it as {SIGNING_KEY}")
    session.result(value, key.seed.hex() if show else f"{name}  {value['public']}")
    session.next(f"registry keys vendor VENDOR --at URL --publisher {value['public']} --key KEEPER --out FILE")


@command(app, example="registry keys list", name="list")
def list_(session: Session) -> None:
    """List the keys of this home by name, with their public halves."""
    folder = key_folder(session)
    keys = [{"name": name, "public": folder.get(name).public.hex()} for name in folder.names()]
    session.result({"keys": keys}, lambda: table(["NAME", "PUBLIC"], [[one["name"], one["public"]] for one in keys]))
    if not keys:
        session.next("registry keys create NAME")


@command(
    app,
    example="registry keys root --key owner --delegate _=owner --expires 365d --out root.json\n"
    "registry keys root --at file:///srv/registry --key owner --delegate acme.com=owner --out next.json",
)
def root(
    session: Session,
    from_: FromOption = "",
    at: MaybeAtOption = "",
    key: KeeperOption = None,
    with_: WithOption = None,
    drop: DropOption = None,
    threshold: ThresholdOption = 0,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="When it counts no more; as before, or 365d, if not given.")
    ] = "",
    delegate: Annotated[
        list[str] | None,
        typer.Option(
            "--delegate", metavar="VENDOR=PUBLIC[,PUBLIC][:N]", help="Who founds a vendor's keys, N of them; several."
        ),
    ] = None,
    undelegate: Annotated[
        list[str] | None, typer.Option("--undelegate", metavar="VENDOR", help="Take a delegation back; several.")
    ] = None,
    checkpoint_key: Annotated[
        list[str] | None,
        typer.Option("--checkpoint-key", metavar="PUBLIC", help="Key that may sign checkpoints and nothing else."),
    ] = None,
    revoke_key: RevokeKeyOption = None,
    out: OutOption = "",
    pin: PinOption = "",
) -> None:
    """Make a registry's root, or the one that follows: who keeps it, and who founds the keys of which vendor.

    Where PUBLIC is asked for, the name of a key of this home does as well. Vendor _ stands for names without one.
    """
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only who signs needs them
    from osiris_mesh.registry.keyring import found_root, next_root  # noqa: PLC0415
    from osiris_mesh.registry.keys import Root  # noqa: PLC0415

    keepers = [key_folder(session).get(name) for name in dict.fromkeys(key or ())]
    before = _before(session, from_, at, pin, "root", "")
    expires_ms = SYSTEM.time_ms() + int(seconds(expires or "365d") * 1000) if expires or before is None else None
    given = delegations_of(session, delegate or ())
    checkpoints = publics_of(session, checkpoint_key)
    if before is None:
        must_be_none(drop=drop, undelegate=undelegate, revoke_key=revoke_key)
        said = found_root(
            some_keepers(keepers),
            threshold=threshold or 1,
            expires_ms=expires_ms or 0,
            keys=publics_of(session, with_),
            checkpoint_keys=checkpoints,
            delegations=given,
        )
    else:
        old = Root.from_payload(before.payload)
        said = next_root(
            before,
            some_keepers(keepers),
            keys=changed_keepers(session, old.keys, with_, drop),
            threshold=threshold or None,
            expires_ms=expires_ms,
            checkpoint_keys=[*map(bytes.fromhex, old.checkpoint_keys), *checkpoints],
            delegate={**given, **dict.fromkeys(undelegate or ())},
            revoke_keys=publics_of(session, revoke_key),
        )
    hand_out(session, said, out)


@command(
    app,
    example="registry keys vendor _ --key owner --publisher ci=math,text --out vendor.json\n"
    "registry keys vendor _ --at file:///srv/registry --key owner --publisher ci --out next.json",
)
def vendor(
    session: Session,
    vendor: Annotated[str, typer.Argument(metavar="VENDOR", help="Domain, or _ for names without a vendor.")],
    from_: FromOption = "",
    at: MaybeAtOption = "",
    key: KeeperOption = None,
    with_: WithOption = None,
    drop: DropOption = None,
    threshold: ThresholdOption = 0,
    publisher: Annotated[
        list[str] | None,
        typer.Option(
            "--publisher",
            metavar="PUBLIC[=NAMESPACE,…]",
            help="Key that may sign records of these namespaces; several.",
        ),
    ] = None,
    drop_publisher: Annotated[
        list[str] | None, typer.Option("--drop-publisher", metavar="PUBLIC", help="Publisher no more; several.")
    ] = None,
    record_threshold: Annotated[
        int, typer.Option("--record-threshold", metavar="N", help="Keys that must sign a record.")
    ] = 0,
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="When they count no more; never.")] = "",
    revoke_key: RevokeKeyOption = None,
    revoke_record: Annotated[
        list[str] | None,
        typer.Option("--revoke-record", metavar="DIGEST", help="Statement that is to be without effect; several."),
    ] = None,
    out: OutOption = "",
    pin: PinOption = "",
) -> None:
    """Make a vendor's keys, or their next version: who keeps them, and who publishes in which namespaces.

    Where PUBLIC is asked for, the name of a key of this home does as well.
    """
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only who signs needs them
    from osiris_mesh.registry.keyring import found_keys, next_keys  # noqa: PLC0415
    from osiris_mesh.registry.keys import NamespaceKeys  # noqa: PLC0415

    keepers = some_keepers([key_folder(session).get(name) for name in dict.fromkeys(key or ())])
    before = _before(session, from_, at, pin, "keys", vendor)
    expires_ms = SYSTEM.time_ms() + int(seconds(expires) * 1000) if expires else None
    named = publishers_of(session, publisher or ())
    if before is None:
        must_be_none(drop=drop, drop_publisher=drop_publisher, revoke_key=revoke_key, revoke_record=revoke_record)
        said = found_keys(
            vendor,
            keepers,
            threshold=threshold or 1,
            keys=publics_of(session, with_),
            publishers=named,
            expires_ms=expires_ms or 0,
            record_threshold=record_threshold or 1,
        )
    else:
        old = NamespaceKeys.from_payload(before.payload)
        gone = {public.hex() for public in publics_of(session, drop_publisher)}
        gone |= {one.key for one in named}
        said = next_keys(
            before,
            keepers,
            keys=changed_keepers(session, old.keys, with_, drop),
            threshold=threshold or None,
            publishers=[*(one for one in old.publishers if one.key not in gone), *named],
            expires_ms=expires_ms,
            record_threshold=record_threshold or None,
            revoke_keys=publics_of(session, revoke_key),
            revoke_records=[digest_of_text(text) for text in revoke_record or ()],
        )
    hand_out(session, said, out)


@command(app, example="registry keys sign root.json --key second")
def sign(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Statement that others have signed.")],
    key: KeeperOption = None,
    merge: Annotated[
        list[str] | None,
        typer.Option("--merge", metavar="FILE", help="The same statement, signed elsewhere; several may be given."),
    ] = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where it is written; FILE if not given.")] = "",
) -> None:
    """Sign, as one more keeper, what another one made; look at what it says before."""
    from osiris_mesh.registry.keyring import cosign  # noqa: PLC0415 - only who signs needs them
    from osiris_mesh.registry.statement import merge as merged  # noqa: PLC0415

    if not key and not merge:
        raise UsageError("nobody signs", fix=f"osiris-mesh registry keys sign {file} --key NAME")
    said = merged([statement_of(file), *(statement_of(other) for other in merge or ())])
    if key:
        said = cosign(said, [key_folder(session).get(name) for name in dict.fromkeys(key)])
    hand_out(session, said, out or file)


@command(app, example="registry keys publish next.json --to file:///srv/registry --key owner")
def publish(
    session: Session,
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Roots and vendors' keys, signed by enough.")],
    to: ToOption,
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of a registry that begins with this.")] = "",
    renew: Annotated[
        bool, typer.Option("--renew", help="Sign those lines anew that would count no more; look at them before.")
    ] = False,
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Publish roots and vendors' keys; where there is no registry yet, begin it with them.

    The key signs the checkpoint: one that the root or any vendor's keys name.
    """
    statements = [statement_of(file) for file in files]
    keys = signers(session, key or (), key_file)
    way = Way(to, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
    with session.busy(f"publishing to {to}"):
        value = run(_publish(session, way, statements, keys, name, renew=renew))
    shown = "\n".join(
        f"{one['what']}: {'published' if one['changed'] else 'there already'}" for one in value["statements"]
    )
    session.result(value, shown)
    session.next(f"registry keys show {to}")


@command(
    app,
    example="registry keys show file:///srv/registry\nregistry keys show file:///srv/registry _ --json",
)
def show(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="URL|NAME|FILE", help="Registry, or file with a statement.")],
    vendor: Annotated[str, typer.Argument(metavar="VENDOR", help="Whose keys; the root if not given.")] = "",
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Show a registry's root, or a vendor's keys, as they are in force; or what a file says."""
    from osiris_mesh.registry.keyring import show as shown  # noqa: PLC0415 - only this shows them

    if ":" not in source and Path(source).is_file():
        said = statement_of(source)
        value = {"source": source, **shown(said)}
    else:
        way = Way(source, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
        said, value = run(_newest(session, way, vendor))
    session.result(value, lambda: statement_text(value))


@command(app, example="registry keys domain acme.com --key owner --offline", name="domain")
def domain_(
    session: Session,
    vendor: Annotated[str, typer.Argument(metavar="VENDOR", help="Domain the names begin with.")],
    key: Annotated[
        str, typer.Option("--key", metavar="NAME|PUBLIC", help="Key the domain is to name; any, to see what it says.")
    ] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Say what to publish, and ask nobody.")] = False,
) -> int:
    """Show what a vendor's domain must say for a key, and ask whether it does."""
    from osiris_mesh.registry.domain import WELL_KNOWN, claim, question, vendor_domain  # noqa: PLC0415 - only this asks

    domain = vendor_domain(vendor)
    public = public_of(session, key) if key else None
    value: dict[str, Any] = {
        "vendor": domain,
        "key": public.hex() if public else None,
        "txt": {"name": question(domain), "text": claim(public)} if public else None,
        "well_known": {"url": f"https://{domain}{WELL_KNOWN}", "line": claim(public)} if public else None,
        "proven": None,
        "found": None,
        "method": None,
    }
    if offline and public is None:
        raise UsageError("without --key there is nothing to publish", fix="give the key, or ask the domain")
    if not offline:
        with session.busy(f"asking {domain}"):
            proof = run(asker().ask(domain, public))
        value |= {
            "found": [one.hex() for one in proof.keys],
            "method": proof.method,
            "proven": public in proof.keys if public else bool(proof.keys),
        }
    facts: list[tuple[str, object]] = []
    if public:
        facts += [
            ("TXT record of", question(domain)),
            ("", claim(public)),
            ("or a line of", f"https://{domain}{WELL_KNOWN}"),
            ("", claim(public)),
        ]
    if value["found"] is not None:
        facts += [("it names", one) for one in value["found"]] or [("it names", "no key")]
        facts.append(("proven", f"yes, by {value['method']}" if value["proven"] else "no"))
    session.result(value, pairs(facts))
    if value["proven"] is False and public:
        session.say("the answer may be some minutes old: publish one of the two, and ask again")
    return 1 if value["proven"] is False else 0


# --- what they have in common ---------------------------------------------------------------------------------------


async def _publish(
    session: Session, way: Way, statements: Sequence[Statement], keys: Sequence[Any], name: str, *, renew: bool
) -> dict[str, Any]:
    import secrets  # noqa: PLC0415 - only a publication needs them

    from osiris_mesh.registry.checkpoint import Config  # noqa: PLC0415

    roots = [one for one in statements if one.kind == "root"]
    others = [one for one in statements if one.kind == "keys"]
    if len(roots) + len(others) != len(statements):
        raise UsageError("only roots and vendors' keys are published here", fix="records: osiris-mesh registry publish")
    done: list[dict[str, Any]] = []
    async with opened(session, way) as place:
        registry = place.registry
        try:
            await place.look(str(one.payload.get("vendor")) for one in others)
            there = True
        except NotFound:
            there = False
        except OsirisError as error:
            # A folder that is not there yet has no registry either; git and others say so otherwise.
            if place.entry.kind != "folder" or error.code != "unavailable":
                raise
            there = False
        try:
            if not there:
                if len(roots) > 1:
                    raise UsageError("a registry begins with one root", fix="publish the others afterwards")
                if roots and registry.trust.pin is None:
                    registry.trust.pin = roots[0].digest
                config = Config(secrets.token_hex(16), name)
                made = await registry.create(config, keys, root=roots[0] if roots else None, vendor_keys=others)
                done = [{"what": what_said(one), "changed": made.changed} for one in [*roots, *others]]
            else:
                for one in roots:
                    made = await registry.publish_root(one, keys)
                    done.append({"what": what_said(one), "changed": made.changed})
                for one in others:
                    made = await registry.publish_keys(one, keys, renew=renew)
                    done.append({"what": what_said(one), "changed": made.changed})
        except CheckFailed as error:
            raise denied(error) from None
        return {
            "source": place.entry.url,
            "registry": registry.trust.registry,
            "root": (registry.trust.pin or b"").hex(),
            "begun": not there,
            "changed": any(one["changed"] for one in done),
            "statements": done,
        }


async def _newest(session: Session, way: Way, vendor: str) -> tuple[Statement, dict[str, Any]]:
    """Return the root or a vendor's keys as a registry has them, verified."""
    from osiris_mesh.registry.history import read_lines  # noqa: PLC0415 - only what reads a registry needs them
    from osiris_mesh.registry.keyring import show as shown  # noqa: PLC0415
    from osiris_mesh.registry.layout import ROOT, keys_path  # noqa: PLC0415

    async with opened(session, way) as place:
        await place.look([vendor])
        path = keys_path(vendor) if vendor else ROOT
        blob = await place.registry.tree.read(path)
        if blob is None:
            what = f"keys of {vendor}" if vendor else "root"
            raise NotFound(f"{place.entry.url} has no {what}")
        lines = read_lines(blob.data)
        if vendor:
            place.registry.trust.weigh_keys(vendor, lines, _now_ms())
        pin = place.registry.trust.pin
        value = {
            "source": place.entry.url,
            "registry": place.registry.trust.registry,
            "pin": pin.hex() if pin else None,
            "checkpoint": place.registry.trust.checkpoint_sequence,
            "stale": place.registry.stale,
            **shown(lines[-1]),
        }
        return lines[-1], value


def _before(session: Session, from_: str, at: str, pin: str, kind: str, vendor: str) -> Statement | None:
    if from_ and at:
        raise UsageError("--from and --at are both given", fix="give one of them")
    if at:
        return run(_newest(session, Way(at, pin), vendor))[0]
    if not from_:
        return None
    said = statement_of(from_)
    if said.kind != kind or (vendor and said.payload.get("vendor") != vendor):
        raise UsageError(f"{from_} holds no {f'keys of {vendor}' if vendor else 'root'}")
    return said


def _now_ms() -> int:
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only what reads a registry needs it

    return SYSTEM.time_ms()
