"""``status sync doctor``: how this node and its mesh are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.errors import OsirisError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.member import members_table
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import pairs, table
from osiris_mesh_cli.values import seconds

app = noun("How the node is.")


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


@command(app, example="status\nstatus --json")
def status(session: Session) -> None:
    """Show the mesh as this node sees it; exit code 0 whenever the controller answers."""
    with Controller(session.home) as controller:
        value = controller.ask("node.status")

    def text() -> str:
        leader = value.get("leader")
        names = {member["peer_id"]: member["name"] for member in value["members"]}
        functions = value.get("functions") or []
        quorum = "yes" if value["quorum"] else "NO: calls go on, changes are refused until a majority is back"
        facts = pairs(
            [
                ("mesh", f"{value.get('name') or ''} {_text(value['mesh_id'])}".strip()),
                ("node", f"{names.get(value['peer_id'], '')} {value['peer_id']}".strip()),
                ("state", value.get("state")),
                ("leader", f"{names.get(leader, leader)} (term {value['term']})" if leader else "none"),
                ("quorum", quorum),
                ("ledger", f"height {value['height']}, tip {_text(value['tip'])[:16]}…"),
                ("listen", "  ".join(value.get("listen") or []) or None),
                ("http", value.get("http") or "off"),
                ("grpc", value.get("grpc") or None),
                ("dns", value.get("dns") or "off"),
                ("functions", len(functions) if isinstance(functions, list) else functions),
            ]
        )
        return f"{facts}\n\n{members_table(value['members'], leader)}"

    session.result(value, text)


@command(app, example="sync --timeout 30s")
def sync(
    session: Session,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait at most.")] = "30s",
) -> None:
    """Catch up with the mesh now: fetch and check the blocks this node does not have."""
    with Controller(session.home) as controller, session.busy("catching up"):
        value = controller.ask("node.sync", timeout=seconds(timeout))
    session.result(value, f"in step at height {value['height']}")
    session.next("status", "ledger log")


@command(app, example="doctor\ndoctor --json")
def doctor(session: Session) -> int:
    """Check this node and what it needs; exit code 1 if something is wrong, with what to do about it."""
    checks = _home_checks(session)
    try:
        with Controller(session.home) as controller, session.busy("checking"):
            checks.append({"name": "controller", "ok": True, "detail": "answers", "fix": ""})
            http = controller.ask("node.status").get("http") or "off"
            checks.append({"name": "http", "ok": True, "detail": str(http), "fix": ""})
            checks.extend(controller.ask("node.doctor", timeout=30)["checks"])
    except OsirisError as error:
        checks.append({"name": "controller", "ok": False, "detail": error.what, "fix": error.fix})
    rows = [["ok" if item["ok"] else "WRONG", item["name"], item["detail"]] for item in checks]
    fixes = [f"  fix {item['name']}: {item['fix']}" for item in checks if not item["ok"] and item["fix"]]
    session.result({"checks": checks}, lambda: "\n".join([table(["", "CHECK", "DETAIL"], rows), *fixes]))
    if not all(item["ok"] for item in checks):
        return 1
    session.next("status")
    return 0


def _home_checks(session: Session) -> list[dict[str, Any]]:
    """What can be seen without the controller: who else could read the home's secrets."""
    home = session.home
    if not home.path.exists():
        return [
            {
                "name": "home",
                "ok": False,
                "detail": f"{home.path} does not exist",
                "fix": "osiris-mesh init, or osiris-mesh join TOKEN",
            }
        ]
    mode = home.path.stat().st_mode & 0o777
    checks = [
        {
            "name": "home",
            "ok": mode == 0o700,
            "detail": f"{home.path} (mode {mode:o})",
            "fix": "" if mode == 0o700 else f"chmod 700 {home.path}",
        }
    ]
    for key in (home.node_key, home.user_key, home.network_key):
        if key.exists():
            mode = key.stat().st_mode & 0o777
            checks.append(
                {
                    "name": f"key {key.name}",
                    "ok": mode == 0o600,
                    "detail": f"mode {mode:o}",
                    "fix": "" if mode == 0o600 else f"chmod 600 {key}",
                }
            )
    return checks
