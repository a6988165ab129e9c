"""Functions: what there is, deployments and changes of them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from osiris_mesh.gateway.http.types.shared import Entries, Signed, VersionText

__all__ = [
    "ActivateBody",
    "BundleStored",
    "DeployBody",
    "Deployed",
    "Deployment",
    "FunctionRow",
    "FunctionSetting",
    "FunctionSettings",
    "FunctionSettingsBody",
    "FunctionView",
    "Functions",
    "OverrideFields",
    "RemoveQuery",
    "Resolved",
    "RollbackBody",
    "VersionBody",
]


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
    source: Annotated[str, Meta(description="local, a registry, or peer and a registry.")] = "local"
    age: Annotated[float, Meta(description="Seconds since a registry said so.")] = 0.0
    stale: bool = False
    deprecated: str | None = None
    requirements: Annotated[dict[str, Any], Meta(description="level, permissions, trusted_providers")] | None = None
    versions: list[str] = []
    providers: Annotated[
        list[dict[str, Any]], Meta(description="In the order they are asked, with what is known of each.")
    ] = []
    ttl_ms: Annotated[int, Meta(description="For how long it may be relied on.")] = 300_000


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
    files: Annotated[
        dict[str, bytes],
        Meta(max_length=4096, description="The files of a folder, by relative path, in base64, instead of a source."),
    ] = {}
    folder: Annotated[
        str, Meta(max_length=128, description="Name of the folder they lie in: the namespace of what has none.")
    ] = ""
    filename: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}\.py$")] = "function.py"
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


class FunctionSetting(Struct):
    """One setting of a function."""

    key: str
    value: str
    default: str
    is_set: bool
    means: str


class FunctionSettings(Struct):
    """The settings of a function's active version."""

    name: str
    version: str
    settings: list[FunctionSetting]


SettingText = Annotated[str, Meta(max_length=32)]


class FunctionSettingsBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What to change, as people write it (`10s`, `256MiB`, `true`); null gives the default again."""

    timeout: SettingText | UnsetType | None = UNSET
    memory: SettingText | UnsetType | None = UNSET
    concurrency: SettingText | UnsetType | None = UNSET
    min: SettingText | UnsetType | None = UNSET
    max: SettingText | UnsetType | None = UNSET
    idle: SettingText | UnsetType | None = UNSET
    idempotent: SettingText | UnsetType | None = UNSET
    network: SettingText | UnsetType | None = UNSET


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
