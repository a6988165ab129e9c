"""``monitor``: one function's figures, live."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import NotFound
from osiris_mesh.function.name import qualified
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.live import IntervalOption, OnceFlag, live
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import pairs, table
from osiris_mesh_cli.top import rate

app = noun("One function, live.")


@command(app, example="monitor addNumbers\nmonitor addNumbers --interval 500ms --json")
def monitor(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="namespace/name, or name for default/name.")],
    once: OnceFlag = False,
    interval: IntervalOption = "1s",
) -> None:
    """Show where a function runs, how many calls come and how long they take, refreshed until Ctrl-C."""
    full = qualified(name)
    with Controller(session.home) as controller:

        def sample() -> dict[str, Any]:
            overview = controller.ask("node.overview")
            for row in overview["functions"]:
                if row["name"] == full:
                    described = controller.ask("function.describe", {"name": full})
                    names = {node["peer_id"]: node["name"] for node in overview["nodes"]}
                    where = {names.get(peer, peer): count for peer, count in described["containers"].items()}
                    return {**row, "containers": where, "time_ms": SYSTEM.time_ms()}
            raise NotFound(f"there is no function {full}", fix="see what there is with: osiris-mesh list")

        live(session, sample, _rates, _text, once=once, interval=interval)


def _rates(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    span = after["time_ms"] - before["time_ms"]
    return {
        **after,
        "interval_ms": span,
        "calls_per_s": rate(before["calls"], after["calls"], span),
        "errors_per_s": rate(before["errors"], after["errors"], span),
    }


def _times(value: dict[str, Any]) -> str:
    mean, half, most = (f"{value[time] / 1000:.2f} ms" for time in ("mean_us", "p50_us", "p99_us"))
    return f"mean {mean}, half of the calls within {half}, 99 % within {most}"


def _text(value: dict[str, Any]) -> str:
    facts = pairs(
        [
            ("function", f"{value['name']} {value['version'] or 'none active'}"),
            ("instances", value["instances"]),
            ("running", value["in_flight"]),
            ("waiting", value["queued"]),
            ("calls/s", value["calls_per_s"]),
            ("errors/s", value["errors_per_s"]),
            ("time", _times(value) if value["calls"] else "no call yet through this node"),
            ("calls", f"{value['calls']}, {value['errors']} of them failed; through this node since it started"),
        ]
    )
    rows = sorted(value["containers"].items())
    return f"{facts}\n\n{table(['NODE', 'INSTANCES'], rows)}" if rows else facts
