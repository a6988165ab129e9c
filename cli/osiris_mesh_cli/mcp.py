"""``mcp``: the functions of the mesh as tools of the Model Context Protocol, on standard input and output."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from osiris_mesh.errors import Unavailable
from osiris_mesh_cli.session import Session, command, noun

app = noun("Model Context Protocol.")


@command(app, example="mcp\nmcp --context 'controlled; functions=team-a/*'")
def mcp(
    session: Session,
    context: Annotated[
        str,
        typer.Option(
            "--context", metavar="TEXT", help="Security context that limits what may be called; see docs/mcp.md."
        ),
    ] = "full",
) -> None:
    """Serve the functions of the mesh as MCP tools on stdin and stdout.

    A program that speaks the Model Context Protocol starts this command itself; over the network it asks /mcp of the
    HTTP API. Every line on stdout is a message, whatever --json says.
    """
    # Only this command needs them.
    import asyncio  # noqa: PLC0415

    from osiris_mesh.gateway.mcp.server import Server  # noqa: PLC0415
    from osiris_mesh.gateway.mcp.stdio import SocketReach, Stdio  # noqa: PLC0415
    from osiris_mesh.registry.context import parse  # noqa: PLC0415

    limits = parse(context)
    if not session.home.socket.exists():
        raise Unavailable(
            f"no controller runs for {session.home.path}", fix="start it with: osiris-mesh start", maybe=False
        )

    async def serve() -> None:
        reach = SocketReach(session.home.socket, limits)
        try:
            await Stdio(Server(reach), sys.stdin.buffer, sys.stdout.buffer).run()
        finally:
            await reach.close()

    if sys.stdin.isatty():
        session.say("this speaks the Model Context Protocol to a program; Ctrl-D ends it")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
