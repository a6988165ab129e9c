"""``top``: nodes and functions with their figures, live."""

from __future__ import annotations

from typing import Any

from osiris_mesh.clock import SYSTEM
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.live import IntervalOption, OnceFlag, live
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import bytes_text, clean, table

app = noun("The mesh, live.")


@command(app, example="top\ntop --once\ntop --json")
def top(session: Session, once: OnceFlag = False, interval: IntervalOption = "2s") -> None:
    """Show nodes and functions with their load and their calls, refreshed until Ctrl-C.

    Calls are those that came through this node; instances and load are those of the whole mesh.
    """
    with Controller(session.home) as controller:

        def sample() -> dict[str, Any]:
            return controller.ask("node.overview") | {"time_ms": SYSTEM.time_ms()}

        live(session, sample, _rates, _text, once=once, interval=interval)


def rate(before: float, after: float, span_ms: int) -> float:
    """Return how much a counter grew a second; a counter that began anew counts from nothing."""
    return round(max(after - before if after >= before else after, 0) * 1000 / max(span_ms, 1), 2)


def _rates(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    span = after["time_ms"] - before["time_ms"]
    earlier = {row["name"]: row for row in before["functions"]}
    functions = [
        {
            **row,
            "calls_per_s": rate(earlier.get(row["name"], {}).get("calls", 0), row["calls"], span),
            "errors_per_s": rate(earlier.get(row["name"], {}).get("errors", 0), row["errors"], span),
        }
        for row in after["functions"]
    ]
    functions.sort(key=lambda row: (-row["calls_per_s"], -row["in_flight"], row["name"]))
    return {**after, "functions": functions, "interval_ms": span}


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:.0f}%"


def _text(value: dict[str, Any]) -> str:
    nodes = [
        [
            row["name"],
            row["state"],
            "leader" if row["leader"] else "voter" if row["voter"] else None,
            _percent(row["cpu"]),
            _percent(row["memory"]),
            None if row["disk_free"] is None else bytes_text(row["disk_free"]),
            row["instances"],
            row["in_flight"],
            row["queued"],
        ]
        for row in value["nodes"]
    ]
    functions = [
        [
            row["name"],
            row["version"],
            row["instances"],
            row["in_flight"],
            row["queued"],
            row["calls_per_s"],
            row["errors_per_s"],
            *(round(row[time] / 1000, 2) for time in ("mean_us", "p50_us", "p99_us")),
            row["calls"],
        ]
        for row in value["functions"]
    ]
    quorum = "" if value["quorum"] else "   NO QUORUM: calls go on, changes are refused"
    return "\n".join(
        [
            f"mesh {clean(str(value['name']))}   height {value['height']}   term {value['term']}{quorum}",
            "",
            table(["NODE", "STATE", "VOTES", "CPU", "MEMORY", "DISK FREE", "INSTANCES", "RUNNING", "WAITING"], nodes),
            "",
            table(
                [
                    "FUNCTION",
                    "VERSION",
                    "INSTANCES",
                    "RUNNING",
                    "WAITING",
                    "CALLS/S",
                    "ERRORS/S",
                    "MEAN MS",
                    "P50 MS",
                    "P99 MS",
                    "CALLS",
                ],
                functions,
            ),
        ]
    )
