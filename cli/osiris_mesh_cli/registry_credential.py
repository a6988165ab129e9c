"""``registry credential …``: what this node shows to providers; the controller reads it anew when it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

app = noun("What this node shows to providers.")

ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider's id, as its record has it.")]


@command(
    app,
    name="set",
    example="registry credential set acme --origin https://api.acme.com --token-file acme.token --for 'acme.com/*/*'",
)
def set_(
    session: Session,
    provider: ProviderArgument,
    origin: Annotated[str, typer.Option("--origin", metavar="URL", help="Where it is shown, and nowhere else.")],
    token_file: Annotated[
        str, typer.Option("--token-file", metavar="FILE", help="File with the secret and nothing else, mode 0600.")
    ],
    header: Annotated[
        str, typer.Option("--header", metavar="NAME", help="Header it goes in as it is; a bearer token if not given.")
    ] = "",
    functions: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="PATTERN", help="Functions whose calls show it; repeat it for several."),
    ] = None,
) -> None:
    """Show a provider what a file holds: a bearer token, an API key, or a token of another mesh."""
    from osiris_mesh.node.credentials import CredentialFile  # noqa: PLC0415 - other commands do not need it

    entry: dict[str, Any] = {
        "origin": origin,
        "token_file": str(Path(token_file).expanduser().absolute()),
        "header": header,
    }
    entry["functions"] = functions or []
    changed = CredentialFile(session.home.path).set(provider, {key: value for key, value in entry.items() if value})
    session.result(
        {"provider": provider, "origin": origin, "changed": changed},
        lambda: f"{provider} is shown it at {origin}" if changed else f"{provider} was shown it at {origin} before",
    )
    if not functions:
        session.say(
            f"warning: every record that names {provider} has it shown at {origin}, whoever signed it\n"
            "  fix: name the functions it is for with --for PATTERN"
        )


@command(app, example="registry credential remove acme")
def remove(session: Session, provider: ProviderArgument) -> None:
    """Show a provider nothing any more; the file of the secret stays."""
    from osiris_mesh.node.credentials import CredentialFile  # noqa: PLC0415 - other commands do not need it

    CredentialFile(session.home.path).remove(provider)
    session.result({"provider": provider, "removed": True}, lambda: f"{provider} is shown nothing any more")


@command(app, name="list", example="registry credential list")
def list_(session: Session) -> None:
    """List which providers are shown something, where, and whether it can be used; never the secret."""
    from osiris_mesh.node.credentials import CredentialFile  # noqa: PLC0415 - other commands do not need it

    rows = CredentialFile(session.home.path).listing()
    session.result(
        {"credentials": rows},
        lambda: (
            table(
                ["PROVIDER", "ORIGIN", "FUNCTIONS", "HEADER", "FILE", "ERROR"],
                [
                    [
                        row["provider"],
                        row["origin"],
                        " ".join(row["functions"]) or "every",
                        row["header"] or "Authorization",
                        row["token_file"],
                        row["error"],
                    ]
                    for row in rows
                ],
            )
            if rows
            else "no provider is shown anything"
        ),
    )
