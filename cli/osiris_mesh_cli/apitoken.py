"""``apitoken create list revoke inspect``: what programs show to the HTTP API."""

from __future__ import annotations

from shlex import quote
from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import NotFound, OsirisError, UsageError
from osiris_mesh_cli.bearing import expiry_text, lifetime, named
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.role import GrantOption, GrantsCommand, checked_grants, grants_of
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import pairs, table, time_text
from osiris_mesh_cli.user import find_user, users_of

app = noun("API tokens let programs use the HTTP API, as a user and within grants of their own.")

# What a token may that was made without a word about it, as far as its owner may: nothing that changes the mesh.
DEFAULT_GRANTS: Final = ("function.call", "function.logs", "function.read", "mesh.read")


@command(
    app,
    example="apitoken create --name shop\n"
    "apitoken create --name ci --grant function.read --grant 'function.deploy:math/*' --ttl 90d --json",
    cls=GrantsCommand,
)
def create(
    session: Session,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it is for; made up if not given.")] = "",
    grant: GrantOption = None,
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="How long it is valid.")] = "30d",
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="Whose it is; this home's user if not given.")
    ] = "",
) -> None:
    """Create an API token and print it, once; without --grant it may call and read, as far as its owner may."""
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - only what signs needs them
    from osiris_mesh.identity.api_token import ApiToken  # noqa: PLC0415
    from osiris_mesh.ledger.kinds import ApiTokenCreate  # noqa: PLC0415

    length = lifetime(ttl, "1h, 30d or 365d")
    token = ApiToken.generate()
    with Controller(session.home) as controller:
        owner = find_user(controller, user) if user else _home_user(controller)
        role = str(owner["role"])
        held = grants_of(controller, role)
        if grant:
            grants = checked_grants(grant)
            _check_within(grants, held, role, str(owner["name"]))
        else:
            grants = default_grants(held, role)
        called = name or f"token-{token.id[:6]}"
        expires = SYSTEM.time_ms() + int(length * 1000)
        answer = controller.submit(ApiTokenCreate(token.key.public, owner["key"], called, grants, expires))
    session.say(
        f"a secret, shown this once: {called} of {owner['name']} may {' '.join(grants)}, until {time_text(expires)}"
    )
    if "user.manage" in grants and _is_short(grants):
        session.say(
            "nobody gives more than he holds: with it, users get roles, and roles get grants, within "
            f"{' '.join(grants)} alone; add --grant for what else it is to give"
        )
    value = {
        "token": token.text(),
        "id": token.id,
        "name": called,
        "owner": owner["name"],
        "grants": grants,
        "expires": expires,
        "height": answer["height"],
    }
    session.result(value, token.text())
    session.say("use it: Authorization: Bearer TOKEN, at the http address of: osiris-mesh status")
    session.next("apitoken list", f"apitoken revoke {token.id}")


def _home_user(controller: Controller) -> dict[str, Any]:
    public = controller.signer().public
    for user in users_of(controller):
        if user["key"] == public:
            return user
    raise NotFound(
        "this home's user is no user of the mesh", fix="say whose it is: --user NAME; see osiris-mesh user list"
    )


def default_grants(held: list[str], role: str) -> list[str]:
    """Return what a token gets without a word: all its owner may of :data:`DEFAULT_GRANTS`, patterns as they are.

    Args:
        held: Grants of the owner's role.
        role: The role's name.

    Raises:
        UsageError: He holds none of them.
    """
    grants = sorted(
        text
        for text in set(held)
        # A grant without a pattern says all that one with a pattern could.
        if text.partition(":")[0] in DEFAULT_GRANTS and (":" not in text or text.partition(":")[0] not in held)
    )
    if not grants:
        raise UsageError(
            f"the role {role} holds none of {' '.join(DEFAULT_GRANTS)}, which a token gets without --grant; "
            f"it holds {' '.join(held) or 'nothing'}",
            fix=f"say what the token may: {' '.join(f'--grant {quote(text)}' for text in held)}"
            if held
            else "give its user a role first: osiris-mesh user update NAME --role ROLE",
        )
    return grants


def _check_within(grants: list[str], held: list[str], role: str, owner: str) -> None:
    from osiris_mesh.ledger.permissions import Grants  # noqa: PLC0415 - only what signs needs it

    missing = Grants(held).missing(Grants(grants))
    if missing:
        raise UsageError(
            f"{owner} does not hold {missing}: his role {role} has {' '.join(held) or 'nothing'}, "
            "and no token may more than its user",
            fix="give the token less, or its user a role that holds it: osiris-mesh user update NAME --role ROLE",
        )


def _is_short(grants: list[str]) -> bool:
    """Say whether even the smallest built-in role reaches further than these grants."""
    from osiris_mesh.ledger.permissions import BUILT_IN_ROLES, Grants  # noqa: PLC0415 - only what signs needs it

    return bool(Grants(grants).missing(BUILT_IN_ROLES["viewer"]))


def _tokens(controller: Controller) -> list[dict[str, Any]]:
    return [
        {**item, "key": item["key"].hex() if isinstance(item["key"], bytes) else item["key"]}
        for item in controller.ask("apitoken.list")["tokens"]
    ]


@command(app, example="apitoken list\napitoken list --json", name="list")
def list_(session: Session) -> None:
    """List the API tokens the ledger knows; the tokens themselves are never shown again."""
    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415 - not worth its import elsewhere

    with Controller(session.home) as controller:
        tokens = _tokens(controller)
    now = SYSTEM.time_ms()
    rows = [
        [
            item["id"],
            item["name"],
            item["owner"],
            expiry_text(item, now),
            " ".join(item["grants"]),
        ]
        for item in tokens
    ]
    session.result({"tokens": tokens}, lambda: table(["ID", "NAME", "OWNER", "EXPIRES", "MAY"], rows))
    if not tokens:
        session.next("apitoken create")


@command(app, example="apitoken revoke 3f9a0c1d2e4b5a60")
def revoke(
    session: Session,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="From `apitoken list`, or its beginning.")],
) -> None:
    """Make an API token worthless."""
    from osiris_mesh.ledger.kinds import ApiTokenRevoke  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        found = named(_tokens(controller), token_id, "API token", "apitoken list")
        answer = controller.submit(ApiTokenRevoke(bytes.fromhex(found["key"])))
    value = {"id": found["id"], "name": found["name"], "revoked": True, "height": answer["height"]}
    session.result(value, f"revoked {found['name']} ({found['id']})")
    session.next("apitoken list")


@command(app, example="apitoken inspect osa1…")
def inspect(
    session: Session, token: Annotated[str, typer.Argument(metavar="TOKEN", help="The whole token, osa1….")]
) -> None:
    """Show which API token this is and, where a controller answers, what it may; the token is not sent anywhere."""
    from osiris_mesh.identity.api_token import ApiToken  # noqa: PLC0415 - only what reads tokens needs it

    parsed = ApiToken.parse(token)
    value: dict[str, Any] = {"id": parsed.id, "key": parsed.key.public.hex(), "known": None}
    try:
        with Controller(session.home) as controller:
            found = next((item for item in _tokens(controller) if item["key"] == value["key"]), None)
    except OsirisError as error:
        session.say(f"what the ledger says of it is not known: {error.what}")
    else:
        value = {**value, **(found or {}), "known": found is not None}
    facts: list[tuple[str, object]] = [
        ("id", value["id"]),
        ("key", value["key"]),
        ("name", value.get("name")),
        ("owner", value.get("owner")),
        ("may", " ".join(value["grants"]) if "grants" in value else None),
        ("expires", time_text(value["expires"]) if "expires" in value else None),
        ("revoked", "yes" if value.get("revoked") else None),
        ("ledger", "no such token in this mesh" if value["known"] is False else None),
    ]
    session.result(value, pairs(facts))
