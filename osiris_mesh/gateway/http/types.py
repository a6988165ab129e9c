"""What requests and answers hold, in JSON: the one source of decoding, checking and the OpenAPI description.

Requests are strict: a field nobody knows is refused. Answers name what programs may rely on; more fields may join them.
Times ``…_ms`` are milliseconds since 1970, keys and digests hexadecimal.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = [
    "ActivateBody",
    "ApiToken",
    "ApiTokenBody",
    "ApiTokens",
    "Audit",
    "AuditQuery",
    "Block",
    "Blocks",
    "BlocksQuery",
    "BundleStored",
    "CallBody",
    "Changed",
    "Check",
    "Checks",
    "DeployBody",
    "Deployed",
    "Deployment",
    "Event",
    "EventHistory",
    "EventsQuery",
    "FunctionRow",
    "FunctionView",
    "Functions",
    "Health",
    "HistoryQuery",
    "LogLine",
    "LogLines",
    "LogsQuery",
    "MapBody",
    "MapItem",
    "MapResults",
    "Member",
    "Members",
    "MetricsQuery",
    "NewToken",
    "NewUser",
    "NodeState",
    "OverrideFields",
    "RemoveQuery",
    "Resolved",
    "Role",
    "RoleBody",
    "Roles",
    "RollbackBody",
    "Samples",
    "SetRoleBody",
    "Setting",
    "SettingBody",
    "Settings",
    "Signed",
    "Status",
    "Synced",
    "TokenBody",
    "TokenRow",
    "Tokens",
    "UserBody",
    "UserChange",
    "UserRow",
    "Users",
    "Verified",
    "VersionBody",
    "WhoAmI",
]

Entries = Annotated[
    list[str],
    Meta(
        min_length=1,
        max_length=64,
        description="Ledger entries (base64) the bearer signed himself, exactly those of this change; without them the "
        "gateway signs with the key of the API token.",
    ),
]
Text = Annotated[str, Meta(max_length=4096)]
NameText = Annotated[str, Meta(min_length=1, max_length=128)]
FunctionText = Annotated[str, Meta(min_length=1, max_length=384)]
VersionText = Annotated[str, Meta(min_length=1, max_length=128)]
KeyText = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Grants = Annotated[list[Annotated[str, Meta(min_length=1, max_length=512)]], Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0)]


class Signed(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a change that says all it has to say in its path."""

    entries: Entries | None = None


class Changed(Struct):
    """The change is in the ledger."""

    height: Annotated[int, Meta(description="Height of the block that records it.")]


# Mesh and node.


class Health(Struct):
    """Whether this controller serves."""

    state: str


class Member(Struct):
    """A member of the mesh."""

    peer_id: str
    name: str
    state: str
    role: str
    voter: bool
    leader: bool
    addresses: list[str]
    since: int


class Members(Struct):
    """The members of the mesh."""

    members: list[Member]


class FunctionCount(Struct):
    """A function in the status."""

    name: str
    version: str | None
    instances: int


class Status(Struct):
    """How the mesh stands, as this node sees it."""

    mesh_id: str
    name: str
    peer_id: str
    node: str
    role: str
    state: str
    leader: str | None
    term: int
    height: int
    tip: str
    quorum: bool
    stale: bool
    voter: bool
    members: list[Member]
    functions: list[FunctionCount]


class SetRoleBody(Signed, kw_only=True):
    """What a member may become."""

    role: Literal["voter", "follower"]


class Check(Struct):
    """One finding of the doctor."""

    name: str
    ok: bool
    detail: str
    fix: str


class Checks(Struct):
    """What the doctor found."""

    checks: list[Check]


class NodeState(Struct):
    """What became of the node."""

    peer_id: str
    state: str


class Synced(Struct):
    """Where the ledger of this node stands now."""

    height: int
    tip: str
    peer_id: str


class MetricsQuery(Struct, forbid_unknown_fields=True):
    """Whose samples."""

    name: Annotated[str, Meta(max_length=384, description="A function; all if empty.")] = ""


class Samples(Struct):
    """Figures of calls that arrived at this node, by function."""

    samples: list[dict[str, Any]]


class WhoAmI(Struct):
    """Who the bearer is, and what he may."""

    peer_id: str
    key: str
    kind: str
    name: str
    owner: str
    grants: list[str]


# Functions.


class FunctionRow(Struct):
    """One function of a list."""

    name: str
    versions: list[str]
    active: str | None
    instances: int
    description: str


class Functions(Struct):
    """Functions the bearer may read about."""

    functions: list[FunctionRow]


class FunctionView(FunctionRow):
    """Everything about one function."""

    containers: dict[str, int]
    history: list[dict[str, Any]]
    local: dict[str, int]
    digest: str | UnsetType = UNSET
    signature: list[Any] | UnsetType = UNSET
    call: str | UnsetType = UNSET
    runtime: str | UnsetType = UNSET
    limits: dict[str, int] | UnsetType = UNSET
    idempotent: bool | UnsetType = UNSET
    network: bool | UnsetType = UNSET


class Resolved(Struct):
    """Which version a name means, and what a caller must know of it."""

    name: str
    version: str
    digest: str
    binding: Annotated[str, Meta(description="Names the signature; send it as Osiris-Binding.")]
    signature: Annotated[dict[str, Any], Meta(description="text, parameters{name, kind, required, type}, returns")]
    wire: Annotated[list[Any], Meta(description="The signature as SDKs read it.")]
    description: str
    timeout_ms: int
    idempotent: bool


class OverrideFields(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Limits that count more than what the source declares."""

    memory: Annotated[str, Meta(max_length=32)] | None = None
    timeout: Annotated[str, Meta(max_length=32)] | None = None
    idle: Annotated[str, Meta(max_length=32)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    min: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    max: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    idempotent: bool | None = None
    network: bool | None = None


class DeployBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A function from its source, or a bundle that was stored before (``digest``)."""

    source: Annotated[str, Meta(max_length=1 << 20, description="Text of one Python file.")] = ""
    filename: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\.py$")] = "function.py"
    function: Annotated[str, Meta(max_length=256, description="Which of the file; all public ones if empty.")] = ""
    name: Annotated[str, Meta(max_length=384)] = ""
    namespace: Annotated[str, Meta(max_length=320)] = ""
    version: Annotated[str, Meta(max_length=128, description="The next patch if empty.")] = ""
    runtime: Annotated[str, Meta(max_length=32)] = ""
    overrides: OverrideFields | None = None
    digest: Annotated[
        str, Meta(pattern="^([0-9a-f]{64})?$", description="Of a stored bundle, instead of a source.")
    ] = ""
    entries: Entries | None = None


class Deployed(Struct):
    """What became of one function."""

    name: str
    version: str
    digest: str
    changed: bool
    tests: dict[str, Any] | None
    height: int | None
    copies: int | None = None
    """Nodes that had it on disk when it was published; the others fetch it."""
    nodes: int | None = None
    """Nodes that lived then."""


class Deployment(Struct):
    """What became of a deployment."""

    functions: list[Deployed]


class BundleStored(Struct):
    """A bundle is in the library of this node."""

    digest: str
    name: str
    version: str


class RemoveQuery(Struct, forbid_unknown_fields=True):
    """What to remove."""

    version: Annotated[str, Meta(max_length=128, description="One that is not active; all if empty.")] = ""


class ActivateBody(Signed, kw_only=True):
    """Which version calls without one go to."""

    version: VersionText


class VersionBody(Signed, kw_only=True):
    """Which version."""

    version: VersionText


class RollbackBody(Signed):
    """Back to which version."""

    to: Annotated[str, Meta(max_length=128, description="The one before the active one if empty.")] = ""


class CallBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of a call; bytes are ``{"$bytes": "<base64>"}``."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class MapBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One call for each item."""

    items: list[Any]
    concurrency: Annotated[int, Meta(ge=1, le=1024, description="Calls under way at a time.")] = 16


class MapItem(Struct, omit_defaults=True):
    """The result of one item, or why there is none."""

    ok: bool
    result: Any = None
    error: dict[str, Any] | None = None


class MapResults(Struct):
    """The results, in the order of the items."""

    results: list[MapItem]


class LogsQuery(Struct, forbid_unknown_fields=True):
    """Which lines."""

    tail: Annotated[int, Meta(ge=0, le=10_000)] = 100
    since_ms: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    follow: Annotated[bool, Meta(description="Answer text/event-stream and go on.")] = False


class LogLine(Struct):
    """One line a function wrote on this node."""

    function: str
    time_ms: int
    version: str
    call: str
    stream: str
    text: str


class LogLines(Struct):
    """Lines, oldest first."""

    lines: list[LogLine]


# Events.


class EventsQuery(Struct, forbid_unknown_fields=True):
    """Which events."""

    names: Annotated[str, Meta(max_length=1024, description="Names or patterns, separated by commas.")] = "*"
    after: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None


class HistoryQuery(Struct, forbid_unknown_fields=True):
    """Which events of the past."""

    names: Annotated[str, Meta(max_length=1024, description="Names or patterns, separated by commas.")] = "*"
    after: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


class Event(Struct):
    """Something that happened."""

    name: str
    sequence: int
    time_ms: int
    fields: dict[str, Any]


class EventHistory(Struct):
    """Events this node remembers, oldest first."""

    events: list[Event]


# Ledger.


class BlocksQuery(Struct, forbid_unknown_fields=True):
    """Which blocks."""

    start: Annotated[int, Meta(ge=0, le=1 << 53, description="Height of the first; the last ones if 0.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 20


class Block(Struct):
    """One block of the ledger."""

    height: int
    hash: str
    previous: str
    container: str
    time_ms: int
    entries: list[dict[str, Any]]


class Blocks(Struct):
    """Blocks, ascending."""

    blocks: list[Block]


class Verified(Struct):
    """Whether the whole stored chain holds."""

    valid: bool
    height: int
    tip: str
    entries: int
    problems: list[dict[str, Any]]


# People.


class TokenRow(Struct):
    """What is public of a join or client token."""

    id: str
    key: str
    role: str
    grant: str
    uses: int
    used: int
    expires: int
    issuer: str
    revoked: bool
    since: int


class Tokens(Struct):
    """Join and client tokens."""

    tokens: list[TokenRow]


class TokenBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a new token is good for."""

    role: Literal["voter", "follower", "client"] = "voter"
    grant: Literal["none", "developer", "operator", "admin"] = "developer"
    uses: Annotated[int, Meta(ge=1, le=100_000)] = 1
    ttl_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] = 3600
    name: Annotated[str, Meta(max_length=128, description="Of a client.")] = ""


class NewToken(Struct):
    """A new token: a secret, shown this once."""

    token: str
    id: str
    expires: int
    role: str
    grant: str
    uses: int
    height: int


class UserRow(Struct):
    """One user."""

    name: str
    role: str
    key: str
    since: int


class Users(Struct):
    """The users."""

    users: list[UserRow]


class UserBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A new user; without a key one is made."""

    name: NameText
    role: NameText = "developer"
    key: KeyText | None = None
    entries: Entries | None = None


class NewUser(Struct, omit_defaults=True):
    """The new user; ``secret`` is the key's seed, shown this once, where the gateway made it."""

    name: str
    role: str
    key: str
    height: int
    secret: str = ""


class UserChange(Signed):
    """What to change of a user."""

    role: Annotated[str, Meta(max_length=128)] = ""
    name: Annotated[str, Meta(max_length=128)] = ""


class Role(Struct):
    """A role."""

    name: str
    grants: list[str]
    builtin: bool


class Roles(Struct):
    """All roles."""

    roles: list[Role]


class RoleBody(Signed, kw_only=True):
    """What a role holds."""

    grants: Grants


class ApiToken(Struct):
    """What is public of an API token."""

    id: str
    name: str
    owner: str
    key: str
    grants: list[str]
    expires: int
    revoked: bool
    since: int


class ApiTokens(Struct):
    """The bearer's API tokens; everybody's for who manages users."""

    tokens: list[ApiToken]


class ApiTokenBody(Struct, forbid_unknown_fields=True):
    """A token never creates tokens: the entry is signed with the owner's own key, so that its secret stays with him."""

    entries: Entries


class Setting(Struct):
    """One setting of the mesh."""

    key: str
    value: str
    default: str
    is_set: bool
    kind: str
    means: str
    problem: str


class Settings(Struct):
    """Every setting: those set, and the known ones that are not."""

    settings: list[Setting]


class SettingBody(Signed, kw_only=True):
    """A setting's value."""

    value: Text


class AuditQuery(Struct, forbid_unknown_fields=True):
    """Which changes; what is left out asks nothing."""

    user: Annotated[str, Meta(max_length=128, description="Name or key of who made it.")] = ""
    kind: Annotated[str, Meta(max_length=64, description="Kind of entry, or its beginning and `*`.")] = ""
    subject: Annotated[str, Meta(max_length=384, description="What was changed, or its beginning and `*`.")] = ""
    since_ms: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    until_ms: Annotated[int, Meta(ge=0, le=1 << 53)] | None = None
    accepted: bool | None = None
    before: Annotated[int, Meta(ge=0, le=1 << 53, description="`next` of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Audit(Struct):
    """Changes, newest first."""

    events: list[dict[str, Any]]
    next: int | None
