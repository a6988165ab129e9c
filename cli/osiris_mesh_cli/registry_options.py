"""Options that commands about registries have in common."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "ApiOption",
    "BranchOption",
    "CaFileOption",
    "GatewayOption",
    "KeyFileOption",
    "KeyOption",
    "PinOption",
    "ToOption",
    "TokenFileOption",
]

ToOption = Annotated[
    str, typer.Option("--to", metavar="URL|NAME", help="Registry: its URL, its name here, or ledger:.")
]
PinOption = Annotated[
    str, typer.Option("--pin", metavar="DIGEST", help="Digest of its root; the first that is seen if not given.")
]
BranchOption = Annotated[str, typer.Option("--branch", metavar="NAME", help="Branch of a repository; main.")]
CaFileOption = Annotated[str, typer.Option("--ca-file", metavar="FILE", help="Certificates (PEM) believed for HTTPS.")]
TokenFileOption = Annotated[
    str, typer.Option("--token-file", metavar="FILE", help="File with the token that is shown to it, mode 0600.")
]
GatewayOption = Annotated[
    list[str] | None,
    typer.Option("--gateway", metavar="URL", help="Gateway of IPFS to read from; several may be given."),
]
ApiOption = Annotated[str, typer.Option("--api", metavar="URL", help="Kubo's RPC to publish to IPFS through.")]
KeyOption = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="NAME", help="Key from: registry keys create; several where several must sign."),
]
KeyFileOption = Annotated[str, typer.Option("--key-file", metavar="FILE", help="File with the key, mode 0600.")]
