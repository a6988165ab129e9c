"""``registry resolve show find evidence usage discover``: what the controller knows through its registries."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.registry_options import KeyFileOption, KeyOption, PinOption
from osiris_mesh_cli.registry_place import run
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import pairs, table, time_text
from osiris_mesh_cli.values import seconds

app = noun("Asking.")

_EPOCH: Final = date(1970, 1, 1)
_DISCOVER_SECONDS: Final = 60.0
_COLUMNS: Final = ("day", "provider", "caller", "function", "currency", "calls", "errors", "cost_micros", "time_us")


@command(
    app,
    example="registry resolve math/add_numbers --explain\nregistry resolve math/add_numbers@^1.0 --timeout 5s --json",
)
def resolve(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="name, name@1.2.0, name@^1.2, name@latest or name@label.")
    ],
    explain: Annotated[bool, typer.Option("--explain", help="Who said what, and why this holds.")] = False,
    context: Annotated[
        str, typer.Option("--context", metavar="TEXT", help="Security context of the call: pure, controlled or full.")
    ] = "",
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="Longest time it may take.")] = "10s",
) -> None:
    """Show what a name comes to: version, providers in the order they are asked, and where the answer is from."""
    wait = seconds(timeout)
    if not 0 < wait <= 3600:
        raise UsageError(f"{timeout!r} is not a time from 1ms to 1h")
    with session.busy(f"resolving {name}"), Controller(session.home) as controller:
        value = controller.ask(
            "registry.resolve",
            {"name": name, "explain": explain, "context": context, "timeout_ms": max(int(wait * 1000), 1)},
            timeout=wait + 2,
        )

    def text() -> str:
        facts: list[tuple[str, object]] = [
            ("name", value["name"]),
            ("version", value["version"]),
            ("digest", value.get("digest") or None),
            ("description", value.get("description") or None),
            ("deprecated", value.get("deprecated")),
            ("from", value["source"]),
            ("age", f"{value['age']:g} s{', stale' if value['stale'] else ''}"),
        ]
        shown = pairs(facts)
        if value["providers"]:
            shown += "\n\n" + _providers_text(value["providers"])
        if value.get("why"):
            rows = [[step["registry"], step["said"], step["outcome"], step["why"]] for step in value["why"]]
            shown += "\n\n" + table(["WHO", "SAID", "THEN", "WHY"], rows)
        return shown

    session.result(value, text)
    session.next(f"call {value['name']} …", f"registry show {value['name']}")


@command(app, example="registry show math/add_numbers")
def show(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="namespace/name or vendor.com/namespace/name.")],
) -> None:
    """Show the history of a name in the first registry that has it, statement by statement, with who signed."""
    with Controller(session.home) as controller:
        value = controller.ask("registry.show", {"name": name})

    def text() -> str:
        rows = [
            [
                one.get("sequence"),
                one["type"],
                one.get("version"),
                _said(one),
                one["signed_by"][0][:16],
                one["statement"][:16],
            ]
            for one in value["statements"]
        ]
        facts = pairs([("name", value["name"]), ("from", value["source"])])
        return f"{facts}\n\n{table(['NO', 'WHAT', 'VERSION', 'SAYS', 'SIGNED BY', 'STATEMENT'], rows)}"

    session.result(value, text)
    session.next(f"registry resolve {value['name']} --explain")


@command(app, example="registry find 'math/*'\nregistry find '**' --limit 20 --json")
def find(
    session: Session,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="* stands for a part of a segment, ** alone for everything.")
    ] = "**",
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Most names shown.")] = 1000,
) -> None:
    """List the names that the registries have, by pattern."""
    with Controller(session.home) as controller:
        value = controller.ask("registry.find", {"pattern": pattern, "limit": limit})
    rows = [[one["name"], one["version"], one["registry"], one["description"]] for one in value["names"]]
    session.result(value, lambda: table(["NAME", "VERSION", "REGISTRY", "DESCRIPTION"], rows))
    if not rows:
        session.next("registry sync", "registry list")


@command(app, example="registry evidence\nregistry evidence team --json")
def evidence(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which registry; all of them if not given.")] = "",
) -> None:
    """Show what registries said that was refused: older states, two things of one version, signatures of nobody."""
    with Controller(session.home) as controller:
        value = controller.ask("registry.evidence", {"name": name})
    rows = [
        [time_text(one["time_ms"]), one["registry"], one["reason"], one["subject"], one["what"]]
        for one in value["evidence"]
    ]
    session.result(
        value, lambda: table(["WHEN", "REGISTRY", "REASON", "ABOUT", "WHAT"], rows) if rows else "nothing was refused"
    )


@command(app, example="registry usage\nregistry usage --since 30d --csv")
def usage(
    session: Session,
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="From this day on: 30d, or 2025-01-31.")
    ] = "30d",
    provider: Annotated[str, typer.Option("--provider", metavar="ID", help="One provider's calls alone.")] = "",
    caller: Annotated[str, typer.Option("--caller", metavar="ID", help="One caller's calls alone.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, as spreadsheets read it.")] = False,
) -> None:
    """Show calls, cost and time by day, provider, caller and function; days are of UTC."""
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only this needs them
    from osiris_mesh_cli.moment import moment  # noqa: PLC0415

    if as_csv and session.json:
        raise UsageError("--csv and --json are both given", fix="choose one")
    body = {"since_ms": moment(since, SYSTEM.time_ms()), "provider": provider, "caller": caller}
    with Controller(session.home) as controller:
        value = controller.ask("registry.usage", body)
    rows = value["usage"]
    if as_csv:
        session.result(value, _csv(rows))
        return
    shown = [
        [
            (_EPOCH + timedelta(days=one["day"])).isoformat(),
            one["provider"],
            one["caller"],
            one["function"],
            one["calls"],
            one["errors"],
            f"{one['cost_micros'] / 1e6:.6f} {one['currency']}".rstrip() if one["cost_micros"] else None,
            f"{one['time_us'] / 1e6:.3f} s",
        ]
        for one in rows
    ]
    heads = ["DAY", "PROVIDER", "CALLER", "FUNCTION", "CALLS", "ERRORS", "COST", "TIME"]
    session.result(value, lambda: table(heads, shown))


@command(app, example="registry discover https://functions.example.com/openapi.json")
def discover(
    session: Session,
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="https:// with an OpenAPI description, or mcp:// with tools.")
    ],
    publish_as: Annotated[
        str, typer.Option("--publish-as", metavar="NAMESPACE", help="Publish what is found there, signed and pinned.")
    ] = "",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="These of what is found; several may be given.")
    ] = None,
    to: Annotated[str, typer.Option("--to", metavar="URL|NAME", help="Registry to publish to.")] = "",
    provider: Annotated[
        str,
        typer.Option("--provider", metavar="[ID=]URL", help="Where it is called; a description's host if not given."),
    ] = "",
    version: Annotated[
        str, typer.Option("--version", metavar="X.Y.Z", help="Semantic version; the next patch if not given.")
    ] = "",
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    pin: PinOption = "",
) -> None:
    """Ask a provider what it can do; with --publish-as, publish records of it, pinned to its descriptions.

    A tool whose description changes afterwards is not called until somebody has looked and signed it anew.
    """
    if bool(publish_as) != bool(to):
        raise UsageError("--publish-as and --to belong together", fix="give both, or neither to look only")
    with session.busy(f"asking {endpoint}"), Controller(session.home) as controller:
        value = controller.ask("registry.discover", {"endpoint": endpoint}, timeout=_DISCOVER_SECONDS)
    found = [one for one in value["found"] if not only or one["name"] in only or one["reference"] in only]
    missing = [name for name in only or () if not any(name in {one["name"], one["reference"]} for one in found)]
    if missing:
        raise UsageError(f"{endpoint} offers no {missing[0]!r}", fix="look at what it offers: without --only")
    value = {**value, "found": found}
    if publish_as:
        from osiris_mesh_cli.registry_discovered import publish_found, server_of  # noqa: PLC0415 - only a publication needs it
        from osiris_mesh_cli.registry_place import Way, signers  # noqa: PLC0415

        keys = signers(session, key or (), key_file)
        with session.busy(f"publishing to {to}"):
            value |= run(
                publish_found(
                    session,
                    Way(to, pin),
                    provider or server_of(endpoint),
                    found,
                    namespace=publish_as,
                    version=version,
                    keys=keys,
                )
            )

    def text() -> str:
        published = {one["reference"]: one for one in value.get("functions", ())}
        rows = [
            [
                one["name"],
                one["reference"],
                _outcome(published.get(one["reference"])),
                one["description"].partition("\n")[0],
            ]
            for one in found
        ]
        shown = table(["NAME", "THERE", "RECORD", "DESCRIPTION"], rows)
        gaps = [[gap["where"], gap["what"]] for gap in value.get("gaps", ())]
        return f"{shown}\n\n{table(['CANNOT BE CALLED', 'WHY'], gaps)}" if gaps else shown

    session.result(value, text)
    if not publish_as:
        session.next(f"registry discover {endpoint} --publish-as NAMESPACE --to URL")


def _outcome(one: dict[str, Any] | None) -> str | None:
    return None if one is None else f"{one['name']}@{one['version']}{'' if one['changed'] else ' (there already)'}"


def _providers_text(providers: list[dict[str, Any]]) -> str:
    rows = [
        [
            one["id"],
            one["endpoint"],
            one.get("region") or None,
            f"{one['cost_micros'] / 1e6:g} {one['currency']}" if one.get("cost_micros") else None,
            one.get("sla", "best-effort"),
        ]
        for one in providers
    ]
    return table(["PROVIDER", "ENDPOINT", "REGION", "COST", "SLA"], rows)


def _said(one: dict[str, Any]) -> str:
    """Return what a statement says, in a few words."""
    words: list[str] = []
    if one["type"] == "binding":
        words.append(str(one.get("description") or "bound"))
    if one.get("deprecated") is not None:
        words.append(f"deprecated: {one['deprecated']}" if one["deprecated"] else "in use again")
    if one.get("providers") is not None:
        words.append("providers " + (" ".join(each["endpoint"] for each in one["providers"]) or "none in particular"))
    if one.get("aliases") is not None:
        words.append("labels " + (" ".join(f"{name}={text}" for name, text in one["aliases"].items()) or "none"))
    return "; ".join(words)


def _csv(rows: list[dict[str, Any]]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, _COLUMNS, lineterminator="\r\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        # A spreadsheet would take it for a formula, and names come from strangers.
        writer.writerow(
            {
                name: f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
                for name, value in row.items()
            }
        )
    return sink.getvalue().rstrip("\r\n")
