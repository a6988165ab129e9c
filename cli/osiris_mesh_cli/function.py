"""``deploy update remove rollback list describe``: functions of the mesh."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.errors import Conflict, NotFound
from osiris_mesh.function.name import qualified
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import bytes_text, pairs, table, time_text

app = noun("Functions.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="namespace/name, or name for default/name.")]
PathArgument = Annotated[str, typer.Argument(metavar="PATH[::FUNCTION]", help="A Python file or a folder.")]
VersionOption = Annotated[
    str | None, typer.Option("--version", metavar="X.Y.Z", help="Semantic version; the next patch if not given.")
]
RuntimeOption = Annotated[str | None, typer.Option("--runtime", metavar="python3.N", help="Interpreter.")]
MinOption = Annotated[int | None, typer.Option("--min", metavar="N", help="Instances kept warm in the mesh.")]
MaxOption = Annotated[int | None, typer.Option("--max", metavar="N", help="Most instances on one node.")]
ConcurrencyOption = Annotated[
    int | None, typer.Option("--concurrency", metavar="N", help="Calls one instance works on at a time.")
]
TimeoutOption = Annotated[str | None, typer.Option("--timeout", metavar="TIME", help="Longest time of one call.")]
MemoryOption = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Memory a worker may use.")]
IdempotentFlag = Annotated[
    bool | None, typer.Option("--idempotent", help="A call may be repeated, so it is retried when a node dies.")
]


def _deploy(session: Session, path: str, must_exist: bool, options: dict[str, Any]) -> list[dict[str, Any]]:
    from osiris_mesh.runtime.build import Overrides  # noqa: PLC0415 - only a deployment builds
    from osiris_mesh_cli.deployment import deploy as carry_out  # noqa: PLC0415

    overrides = Overrides(
        memory=options.pop("memory"),
        timeout=options.pop("timeout"),
        concurrency=options.pop("concurrency"),
        min=options.pop("min_instances"),
        max=options.pop("max_instances"),
        idempotent=options.pop("idempotent"),
    )
    with Controller(session.home) as controller:
        return carry_out(
            controller,
            path,
            say=session.say,
            busy=session.busy,
            overrides=overrides,
            must_exist=must_exist,
            **options,
        )


def _outcome(item: dict[str, Any]) -> str:
    if not item["changed"]:
        return f"{item['name']} {item['version']}: unchanged, this very code is active already"
    return f"{item['name']} {item['version']}: active{_tests_text(item.get('tests'))}"


def _next(session: Session, item: dict[str, Any]) -> None:
    with Controller(session.home) as controller:
        call = str(controller.ask("function.describe", {"name": item["name"]}).get("call") or "")
    takes = call.partition("(")[2].rpartition(")")[0]
    session.next(f"call {item['name']}{' …' if takes else ''}", f"describe {item['name']}")


def _tests_text(tests: Any) -> str:
    passed = tests.get("passed", 0) if isinstance(tests, dict) else 0
    return f", {passed} {'test' if passed == 1 else 'tests'} passed" if passed else ""


@command(
    app,
    example="deploy ./image-processing/sharpen.py\n"
    "deploy ./functions/add_numbers.py --name addNumbers --runtime python3.11\n"
    "deploy ./text/words.py::tokens --version 2.0.0 --min 1",
)
def deploy(
    session: Session,
    path: PathArgument,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name; with several functions their namespace.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Namespace; the folder's name if not given.")
    ] = None,
    version: VersionOption = None,
    runtime: RuntimeOption = None,
    min_instances: MinOption = None,
    max_instances: MaxOption = None,
    concurrency: ConcurrencyOption = None,
    timeout: TimeoutOption = None,
    memory: MemoryOption = None,
    idempotent: IdempotentFlag = None,
) -> None:
    """Deploy the function of a file, or all its public ones: build, upload, test, publish, activate.

    The version that was active stays so if a test fails. Deploying the same code again changes nothing.
    """
    options = {
        "name": name,
        "namespace": namespace,
        "version": version,
        "runtime": runtime,
        "min_instances": min_instances,
        "max_instances": max_instances,
        "concurrency": concurrency,
        "timeout": timeout,
        "memory": memory,
        "idempotent": idempotent,
    }
    done = _deploy(session, path, False, options)  # noqa: FBT003 - a new function is welcome
    value = done[0] if len(done) == 1 else {"changed": any(item["changed"] for item in done)}
    session.result({**value, "functions": done}, "\n".join(_outcome(item) for item in done))
    _next(session, done[0])


@command(app, example="update addNumbers ./functions/add_numbers_v2.py")
def update(
    session: Session,
    name: NameArgument,
    path: PathArgument,
    version: VersionOption = None,
    runtime: RuntimeOption = None,
    min_instances: MinOption = None,
    max_instances: MaxOption = None,
    concurrency: ConcurrencyOption = None,
    timeout: TimeoutOption = None,
    memory: MemoryOption = None,
    idempotent: IdempotentFlag = None,
) -> None:
    """Give a function that is there new code, as a new version."""
    options = {
        "name": qualified(name),
        "version": version,
        "runtime": runtime,
        "min_instances": min_instances,
        "max_instances": max_instances,
        "concurrency": concurrency,
        "timeout": timeout,
        "memory": memory,
        "idempotent": idempotent,
    }
    done = _deploy(session, path, True, options)  # noqa: FBT003 - it must be there
    with Controller(session.home) as controller:
        now = controller.ask("function.describe", {"name": name})
    session.result({**now, **done[0]}, _outcome(done[0]))
    session.next(f"describe {done[0]['name']}", f"rollback {done[0]['name']}")


@command(app, example="remove addNumbers\nremove addNumbers --version 1.0.0")
def remove(session: Session, name: NameArgument, version: VersionOption = None) -> None:
    """Remove a function with all its versions, or one version that is not active."""
    from osiris_mesh.ledger.kinds import FunctionRemove  # noqa: PLC0415 - only what signs needs it

    full = qualified(name)
    with Controller(session.home) as controller:
        before = controller.ask("function.describe", {"name": full})
        answer = controller.submit(FunctionRemove(full, version or ""))
    left = [item for item in before["versions"] if version is not None and item != version]
    value = {
        "name": full,
        "versions": left,
        "active": before["active"] if left else None,
        "instances": before["instances"] if left else 0,
        "removed": True,
        "height": answer["height"],
    }
    session.result(value, f"removed {full}{f' {version}' if version else ''}")
    session.next("list")


@command(app, example="rollback addNumbers\nrollback addNumbers --to 1.0.0")
def rollback(
    session: Session,
    name: NameArgument,
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="The version before the active one if not given.")
    ] = None,
) -> None:
    """Make an earlier version the active one again."""
    from osiris_mesh.ledger.kinds import FunctionActivate  # noqa: PLC0415 - only what signs needs it

    full = qualified(name)
    with Controller(session.home) as controller:
        before = controller.ask("function.describe", {"name": full})
        target = to or _version_before(before)
        if target not in before["versions"]:
            raise NotFound(f"there is no {full} {target}", fix=f"there are {', '.join(before['versions'])}")
        answer = controller.submit(FunctionActivate(full, target))
    value = {**before, "active": target, "height": answer["height"], "changed": target != before["active"]}
    session.result(value, f"{full} {target}: active")
    session.next(f"describe {full}", f"call {full} …")


def _version_before(described: dict[str, Any]) -> str:
    versions, active = described["versions"], described["active"]
    place = versions.index(active) if active in versions else len(versions)
    if place == 0:
        raise Conflict(f"{described['name']} has no version before {active}", fix="name one with --to VERSION")
    return str(versions[place - 1])


@command(app, example="list --json", name="list")
def list_(session: Session) -> None:
    """List the functions of the mesh."""
    with Controller(session.home) as controller:
        functions = controller.ask("function.list")["functions"]
    rows = [
        [item["name"], item["active"], len(item["versions"]), item["instances"], item.get("description", "")]
        for item in functions
    ]
    session.result(
        {"functions": functions}, lambda: table(["NAME", "ACTIVE", "VERSIONS", "INSTANCES", "DESCRIPTION"], rows)
    )
    if not functions:
        session.next("deploy PATH")


@command(app, example="describe image-processing/sharpen")
def describe(session: Session, name: NameArgument) -> None:
    """Show everything about one function."""
    with Controller(session.home) as controller:
        value = controller.ask("function.describe", {"name": name})

    def text() -> str:
        limits = value.get("limits") or {}
        facts: list[tuple[str, object]] = [
            ("name", value["name"]),
            ("call", value.get("call")),
            ("description", value.get("description") or None),
            ("active", value["active"]),
            ("digest", value.get("digest")),
            ("runtime", value.get("runtime")),
            ("instances", value["instances"]),
        ]
        if limits:
            facts += [
                ("memory", bytes_text(limits["memory"])),
                ("timeout", f"{limits['timeout_ms'] / 1000:g} s"),
                ("concurrency", limits["concurrency"]),
                ("kept warm", limits["min_instances"]),
                ("most on a node", limits["max_instances"]),
            ]
        facts += [("idempotent", value.get("idempotent")), ("network", value.get("network"))]
        rows = [
            [
                item["version"],
                time_text(item["published_ms"]),
                item["digest"][:16],
                "active" if item["version"] == value["active"] else "deprecated" if item["deprecated"] else "",
            ]
            for item in value["history"]
        ]
        return f"{pairs(facts)}\n\n{table(['VERSION', 'PUBLISHED', 'DIGEST', ''], rows)}"

    session.result(value, text)
