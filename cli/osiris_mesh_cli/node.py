"""``init join start stop restart leave drain``: the life of one node."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from osiris_mesh.errors import NotFound, OsirisError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import pairs
from osiris_mesh_cli.values import seconds

app = noun("One node.")

ListenOption = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where links are accepted; port 0: any free one.")
]
HttpOption = Annotated[
    str,
    typer.Option(
        "--http",
        metavar="HOST:PORT|off",
        help="Where the HTTP API answers; 127.0.0.1:7480 or a free port if not given.",
    ),
]
CertOption = Annotated[
    str, typer.Option("--http-cert", metavar="FILE", help="Certificate (PEM); beyond this machine HTTP takes TLS.")
]
KeyOption = Annotated[str, typer.Option("--http-key", metavar="FILE", help="Key of that certificate (PEM).")]
ProxyFlag = Annotated[bool, typer.Option("--http-proxy", help="A proxy in front of the HTTP API ends TLS.")]
GrpcOption = Annotated[
    str,
    typer.Option("--grpc", metavar="HOST:PORT", help="Where the gRPC API answers too; takes the extra grpc."),
]
DnsOption = Annotated[
    str,
    typer.Option(
        "--dns", metavar="HOST:PORT|off", help="Where DNS answers; 127.0.0.1:7453 or a free port if not given."
    ),
]
OtlpOption = Annotated[
    str, typer.Option("--otlp", metavar="URL", help="OpenTelemetry collector that spans of calls are sent to.")
]
NoMdnsFlag = Annotated[bool, typer.Option("--no-mdns", help="Neither announce nor look around by mDNS.")]
DetachFlag = Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready; it runs on.")]
NodeNameOption = Annotated[
    str | None, typer.Option("--node-name", metavar="NAME", help="Name of this node for people; the machine's if not.")
]
PresetOption = Annotated[str, typer.Option("--preset", metavar="local|lan|wan", help="Set of timings.")]
RegionOption = Annotated[
    str,
    typer.Option("--region", metavar="NAME", help="Where this node runs; members there are asked about names first."),
]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait at most.")]

_READY_SECONDS = 60.0
_LOOK_AROUND_SECONDS = 3.0
_HINT = ("status", "list")


def _options(
    listen: str | None,
    node_name: str | None,
    *,
    no_mdns: bool,
    seeds: list[str] | None = None,
    **given: Any,
) -> Any:
    from osiris_mesh.node.options import NodeOptions  # noqa: PLC0415 - only what prepares a home needs it

    given |= {"mdns": not no_mdns, "seeds": tuple(seeds or ())}
    for key in ("http_cert", "http_key"):
        # The controller may run elsewhere than in this folder.
        given[key] = str(Path(given[key]).expanduser().absolute()) if given[key] else ""
    if listen is not None:
        given["listen"] = listen
    if node_name is not None:
        given["name"] = node_name
    return NodeOptions(**given).check()


def _warn(session: Session, ready: dict[str, Any]) -> None:
    """Say it where functions are not kept from this machine; silence would pass for safety."""
    sandbox = ready.get("sandbox") or {"full": True}
    if not sandbox["full"]:
        session.say(
            f"warning: functions are not isolated from this machine ({sandbox['detail']})\n"
            "  fix: install bubblewrap, let it make namespaces, and restart; osiris-mesh doctor tells when it is well"
        )


def _run(
    session: Session,
    detach: bool,
    shape: Callable[[dict[str, Any]], tuple[dict[str, Any], str]],
    *,
    hint: tuple[str, ...],
    undo: Callable[[], None] | None = None,
) -> int:
    """Run the home's controller.

    Args:
        session: The home.
        detach: Return when it is ready.
        shape: Turns its report into the command's result.
        hint: The commands that are useful then.
        undo: What to do if it can't be made ready.
    """
    from osiris_mesh_cli.process import run_detached, run_foreground  # noqa: PLC0415 - most commands start nothing

    if detach:
        try:
            with session.busy("starting the controller"):
                ready = run_detached(session.home, _READY_SECONDS)
        except OsirisError:
            if undo is not None:
                undo()
            raise
        session.result(*shape(ready))
        _warn(session, ready)
        session.next(*hint)
        return 0

    def announce(ready: dict[str, Any]) -> None:
        if "error" in ready:
            if undo is not None:
                undo()
            # The controller itself says it on stderr and ends with the error's exit code.
            if session.json:
                session.result(ready)
            return
        session.result(*shape(ready))
        _warn(session, ready)
        session.say("ready; Ctrl-C stops this node")
        session.next(*hint)

    return run_foreground(session.home, announce)


def _facts(ready: dict[str, Any]) -> list[tuple[str, object]]:
    listen = ready.get("listen") or []
    return [
        ("mesh", f"{ready.get('name') or ''} {ready['mesh_id']}".strip()),
        ("peer", ready["peer_id"]),
        ("listen", "  ".join(listen) if isinstance(listen, list) else listen),
        ("http", ready.get("http") or "off"),
        ("dns", ready.get("dns") or "off"),
    ]


@command(app, example="init --name home\ninit --listen 127.0.0.1:0 --no-mdns --detach --json")
def init(
    session: Session,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the mesh; made up if not given.")] = "",
    listen: ListenOption = None,
    http: HttpOption = "",
    http_cert: CertOption = "",
    http_key: KeyOption = "",
    http_proxy: ProxyFlag = False,
    grpc: GrpcOption = "",
    dns: DnsOption = "",
    otlp: OtlpOption = "",
    no_mdns: NoMdnsFlag = False,
    detach: DetachFlag = False,
    node_name: NodeNameOption = None,
    preset: PresetOption = "lan",
    region: RegionOption = "",
) -> int:
    """Create a mesh with this node as its first member, and run it."""
    from osiris_mesh.node.prepare import create_mesh  # noqa: PLC0415 - only init needs it

    options = _options(
        listen,
        node_name,
        no_mdns=no_mdns,
        preset=preset,
        region=region,
        http=http,
        http_cert=http_cert,
        http_key=http_key,
        http_proxy=http_proxy,
        grpc=grpc,
        dns=dns,
        otlp=otlp,
    )
    create_mesh(session.home, options, name)

    def shape(ready: dict[str, Any]) -> tuple[dict[str, Any], str]:
        return {"http": None, **ready}, f"created a mesh\n{pairs(_facts(ready))}"

    def undo() -> None:
        # It never ran, so there is no mesh yet: with another port, say, it may be created anew.
        if not any(session.home.raft.iterdir()):
            session.home.mesh_file.unlink(missing_ok=True)
            shutil.rmtree(session.home.ledger, ignore_errors=True)

    return _run(session, detach, shape, hint=("deploy PATH", "token create (to let others in)"), undo=undo)


@command(app, example="join osm1…\njoin osm1… --listen 127.0.0.1:0 --no-mdns --detach --json")
def join(
    session: Session,
    token: Annotated[str | None, typer.Argument(metavar="TOKEN", help="From: osiris-mesh token create.")] = None,
    seed: Annotated[
        list[str] | None,
        typer.Option("--seed", metavar="ADDRESS", help="Where a member answers; several may be given."),
    ] = None,
    listen: ListenOption = None,
    http: HttpOption = "",
    http_cert: CertOption = "",
    http_key: KeyOption = "",
    http_proxy: ProxyFlag = False,
    grpc: GrpcOption = "",
    dns: DnsOption = "",
    otlp: OtlpOption = "",
    no_mdns: NoMdnsFlag = False,
    detach: DetachFlag = False,
    node_name: NodeNameOption = None,
    preset: PresetOption = "lan",
    region: RegionOption = "",
) -> int:
    """Join a mesh with a token from one of its members, and run this node."""
    from osiris_mesh.node.options import MeshFile  # noqa: PLC0415 - only what prepares a home needs it
    from osiris_mesh.node.prepare import join_mesh, pending_token  # noqa: PLC0415 - the same

    options = _options(
        listen,
        node_name,
        no_mdns=no_mdns,
        seeds=seed,
        preset=preset,
        region=region,
        http=http,
        http_cert=http_cert,
        http_key=http_key,
        http_proxy=http_proxy,
        grpc=grpc,
        dns=dns,
        otlp=otlp,
    )
    if token is not None:
        join_mesh(session.home, token, options)
    elif MeshFile.load(session.home) is None and pending_token(session.home) is None:
        return _look_around(session, mdns=options.mdns)

    def shape(ready: dict[str, Any]) -> tuple[dict[str, Any], str]:
        value = {"http": None, "role": None, "members": [], **ready}
        facts = [*_facts(ready), ("role", ready.get("role")), ("members", len(value["members"]))]
        return value, f"joined the mesh\n{pairs(facts)}"

    return _run(session, detach, shape, hint=_HINT)


def _look_around(session: Session, *, mdns: bool) -> int:
    """Say which meshes are near; joining one takes a token."""
    start = "start one here with: osiris-mesh init; or join with a token: osiris-mesh join TOKEN"
    if not mdns:
        raise NotFound("no token was given, and --no-mdns forbids to look around", fix=start)
    import asyncio  # noqa: PLC0415 - only looking around needs it, and mDNS

    from osiris_mesh.link.discovery import browse  # noqa: PLC0415

    session.say(f"looking around for {_LOOK_AROUND_SECONDS:.0f} s …")
    seen = asyncio.run(browse(_LOOK_AROUND_SECONDS))
    near: dict[str, list[str]] = {}
    for hint in seen.hints:
        near.setdefault(hint.mark, []).extend(str(address) for address in hint.addresses)
    if not near:
        why = f" ({seen.problem})" if seen.problem else ""
        raise NotFound(f"no mesh was found near here{why}", fix=start, meshes=[])
    lines = "; ".join(f"a mesh at {', '.join(addresses[:3])}" for addresses in near.values())
    raise NotFound(
        f"a token is needed to join; near here: {lines}",
        fix="on one of its members: osiris-mesh token create; then here: osiris-mesh join TOKEN",
        meshes=[{"mark": mark, "addresses": addresses} for mark, addresses in near.items()],
    )


@command(app, example="start\nstart --detach")
def start(session: Session, detach: DetachFlag = False) -> int:
    """Run this node with what `init` or `join` was told."""
    from osiris_mesh.node.options import MeshFile  # noqa: PLC0415 - only what prepares a home needs it
    from osiris_mesh.node.prepare import hold, pending_token  # noqa: PLC0415 - the same

    if MeshFile.load(session.home) is None and pending_token(session.home) is None:
        raise NotFound(
            f"{session.home.path} belongs to no mesh",
            fix="create one with: osiris-mesh init, or join one with: osiris-mesh join TOKEN",
        )
    with hold(session.home):
        pass  # an early, plain refusal if a controller runs; the controller itself holds it from then on

    def shape(ready: dict[str, Any]) -> tuple[dict[str, Any], str]:
        return {"state": "running", "http": None, **ready}, f"running\n{pairs(_facts(ready))}"

    return _run(session, detach, shape, hint=_HINT)


def _end(session: Session, method: str, timeout: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the controller to end, and wait until it has."""
    from osiris_mesh_cli.process import wait_released  # noqa: PLC0415 - most commands end nothing

    with session.busy("waiting for the controller to finish its work and end"):
        with Controller(session.home) as controller:
            answer = controller.ask(method, body, timeout=timeout)
        wait_released(session.home, timeout)
    return answer


@command(app, example="stop")
def stop(session: Session, timeout: TimeoutOption = "60s") -> None:
    """Stop this node: it takes no more work, finishes what it has, hands over leadership, ends."""
    answer = _end(session, "node.stop", seconds(timeout))
    session.result(answer | {"state": "stopped"}, "stopped")
    session.next("start")


@command(app, example="restart --json")
def restart(session: Session, timeout: TimeoutOption = "60s") -> int:
    """Stop this node if it runs, and start it again, detached."""
    from osiris_mesh_cli.process import is_held  # noqa: PLC0415 - most commands start nothing

    if is_held(session.home):
        _end(session, "node.stop", seconds(timeout))

    def shape(ready: dict[str, Any]) -> tuple[dict[str, Any], str]:
        return {"state": "running", "http": None, **ready}, f"running\n{pairs(_facts(ready))}"

    return _run(session, True, shape, hint=_HINT)  # noqa: FBT003 - detached


@command(app, example="leave")
def leave(
    session: Session,
    timeout: TimeoutOption = "60s",
    force: Annotated[bool, typer.Option("--force", help="Leave even if the mesh can't be told.")] = False,
) -> None:
    """Leave the mesh for good: the ledger no longer names this node, and it stops."""
    answer = _end(session, "node.leave", seconds(timeout), {"force": force})
    session.result(answer, "left the mesh; this home can be removed")
    session.next("join TOKEN", "init")


@command(app, example="drain")
def drain(session: Session, timeout: TimeoutOption = "60s") -> None:
    """Take no more work and finish what there is; the node stays a member and runs on."""
    with Controller(session.home) as controller, session.busy("waiting for calls under way"):
        answer = controller.ask("node.drain", timeout=seconds(timeout))
    session.result(answer, str(answer.get("state", "drained")))
    session.next("restart (to take up work again)", "leave")
