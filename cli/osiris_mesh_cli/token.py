"""``token create list revoke inspect``: what lets nodes and clients in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.bearing import expiry_text, lifetime, named
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun, one_of
from osiris_mesh_cli.tables import pairs, table, time_text

if TYPE_CHECKING:
    from osiris_mesh.identity.token import Token

app = noun("Tokens let nodes and clients in.")
_MAX_USES: Final = 100_000


@command(
    app, example="token create\ntoken create --role follower --uses 5 --ttl 10m\ntoken create --role client --json"
)
def create(
    session: Session,
    role: Annotated[str, typer.Option("--role", metavar="voter|follower|client", help="What its bearer becomes.")] = (
        "voter"
    ),
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="How many joins it is good for.")] = 1,
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="How long it is valid.")] = "1h",
    grant: Annotated[
        str,
        typer.Option(
            "--grant", metavar="none|developer|operator|admin", help="Role of the user that comes with the bearer."
        ),
    ] = "developer",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of a client.")] = "",
) -> None:
    """Create a token and print it, once.

    It is a secret: whoever holds it can join. It carries the addresses and keys of members, so its bearer knows that it
    is this mesh it joins.
    """
    length = lifetime(ttl, "10m, 1h or 30d")
    _check(role, grant, uses, name)
    with Controller(session.home) as controller:
        token = make_token(controller, role=role, uses=uses, ttl_seconds=length, grant=grant, name=name)
    session.say(f"a secret: good for {uses} {role}{'s' if uses > 1 else ''}, until {time_text(token.expires_ms)}")
    value = {
        "token": token.text(),
        "id": token.id,
        "expires": token.expires_ms,
        "role": role,
        "grant": grant,
        "uses": uses,
    }
    session.result(value, token.text())
    session.next("join TOKEN (on the other machine)" if role != "client" else "token list")


def _check(role: str, grant: str, uses: int, name: str) -> None:
    from osiris_mesh.identity.token import GRANTS, ROLES  # noqa: PLC0415 - brings NaCl

    one_of(role, ROLES, "role")
    one_of(grant, GRANTS, "grant")
    if not 1 <= uses <= _MAX_USES or (role == "client" and uses != 1):
        raise UsageError(
            f"a {role} token can't be good for {uses} joins",
            fix="from 1 to 100000; a client's token is the client itself, so 1",
        )
    if name and role != "client":
        raise UsageError("--name names a client; a node names itself", fix="leave it out, or add --role client")


def make_token(
    controller: Controller,
    *,
    role: str = "voter",
    uses: int = 1,
    ttl_seconds: float = 3600.0,
    grant: str = "developer",
    name: str = "",
) -> Token:
    """Make a token signed by the home's user, and record its public half in the ledger.

    Raises:
        OsirisError: The ledger refuses it, or nobody answers.
    """
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only what makes tokens needs them
    from osiris_mesh.identity.keys import KeyPair  # noqa: PLC0415
    from osiris_mesh.identity.multiaddr import Multiaddr  # noqa: PLC0415
    from osiris_mesh.identity.token import Token  # noqa: PLC0415
    from osiris_mesh.ledger.kinds import TokenCreate  # noqa: PLC0415

    contact = controller.ask("mesh.contact")
    token = Token(
        mesh_id=_octets(contact["mesh_id"]),
        network_key=_octets(contact["network_key"]),
        role=role,
        grant=grant,
        seed=KeyPair.generate().seed,
        uses=uses,
        expires_ms=SYSTEM.time_ms() + int(ttl_seconds * 1000),
        members=tuple(Multiaddr.parse(address) for address in contact["members"]),
    ).signed(controller.signer())
    client = "" if role != "client" else name or f"client-{token.id[:6]}"
    controller.submit(TokenCreate(token.key.public, role, grant, uses, token.expires_ms, client))
    return token


def _octets(value: bytes | str) -> bytes:
    return bytes.fromhex(value) if isinstance(value, str) else value


def _tokens(controller: Controller) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = controller.ask("token.list")["tokens"]
    return tokens


@command(app, example="token list", name="list")
def list_(session: Session) -> None:
    """List the tokens the ledger knows; the tokens themselves are never shown again."""
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - not worth its import elsewhere

    with Controller(session.home) as controller:
        tokens = _tokens(controller)
    now = SYSTEM.time_ms()
    rows = [
        [
            item["id"],
            item["role"],
            item["grant"],
            f"{item['used']}/{item['uses']}",
            expiry_text(item, now),
        ]
        for item in tokens
    ]
    session.result({"tokens": tokens}, lambda: table(["ID", "ROLE", "GRANT", "USED", "EXPIRES"], rows))


@command(app, example="token revoke 3f9a0c1d2e4b5a60")
def revoke(
    session: Session,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="From `token list`, or its beginning.")],
) -> None:
    """Make a token worthless; a client that holds it is cut off."""
    from osiris_mesh.ledger.kinds import TokenRevoke  # noqa: PLC0415 - only this command needs it

    with Controller(session.home) as controller:
        found = named(_tokens(controller), token_id, "token", "token list")
        answer = controller.submit(TokenRevoke(found["key"]))
    session.result({"id": found["id"], "revoked": True, "height": answer["height"]}, f"revoked token {found['id']}")
    session.next("token list")


@command(app, example="token inspect osm1…\ntoken inspect osm1… --reveal --json")
def inspect(
    session: Session,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The whole token, osm1….")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the mesh's network key too; it is a secret.")] = False,
) -> None:
    """Show what a token says, without using it; needs no controller."""
    from osiris_mesh.identity.peer_id import peer_id, public_key  # noqa: PLC0415 - only this command needs them
    from osiris_mesh.identity.token import Token  # noqa: PLC0415

    parsed = Token.parse(token)
    members: dict[str, list[str]] = {}
    for address in parsed.members:
        members.setdefault(address.peer, []).append(str(address))
    value: dict[str, Any] = {
        "id": parsed.id,
        "mesh_id": parsed.mesh_id.hex(),
        "role": parsed.role,
        "grant": parsed.grant,
        "uses": parsed.uses,
        "expires": parsed.expires_ms,
        "issuer": parsed.issuer.hex(),
        "members": [
            {"peer_id": peer, "public_key": public_key(peer).hex(), "addresses": addresses}
            for peer, addresses in members.items()
        ],
    }
    if reveal:
        value["network_key"] = parsed.network_key.hex()
    facts: list[tuple[str, object]] = [
        ("id", parsed.id),
        ("mesh", parsed.mesh_id.hex()),
        ("role", parsed.role),
        ("grant", parsed.grant),
        ("uses", parsed.uses),
        ("expires", time_text(parsed.expires_ms)),
        ("issuer", peer_id(parsed.issuer)),
        *[("member", address) for addresses in members.values() for address in addresses],
        ("network key", parsed.network_key.hex() if reveal else None),
    ]
    session.result(value, pairs(facts))
