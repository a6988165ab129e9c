"""What a deployment does: builds bundles, chooses versions, uploads, signs, has them tested and published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.errors import CheckFailed, Conflict, NotFound, OsirisError
from osiris_mesh.function.name import Version
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.tables import clean

if TYPE_CHECKING:
    from osiris_mesh.runtime.build import Overrides
    from osiris_mesh.runtime.bundle import Bundle

__all__ = ["Known", "Plan", "choose_version", "deploy", "describe", "earlier_lock", "redeploy"]

FIRST_VERSION: Final = "1.0.0"
_TESTS_SECONDS: Final = 660.0
_UPLOAD_SECONDS: Final = 120.0
_TRIES: Final = 32


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a function before it is deployed.

    Attributes:
        active: The active version, or None.
        digests: Digest in hexadecimal by version.
    """

    active: str | None = None
    digests: Mapping[str, str] | None = None

    @classmethod
    def of(cls, described: dict[str, Any] | None) -> Known:
        """Return what an answer of ``function.describe`` says; None: there is no such function."""
        if described is None:
            return cls(None, {})
        return cls(described["active"], {item["version"]: item["digest"] for item in described["history"]})


@dataclass(frozen=True, slots=True)
class Plan:
    """Which version to deploy.

    Attributes:
        version: Semantic version.
        changed: There is something to do.
    """

    version: str
    changed: bool


def choose_version(known: Known, wanted: str | None, digest_as: Callable[[str], str]) -> Plan:
    """Return the version a deployment gets.

    A bundle's digest covers its version, so "the same code" means: built as that version, it has that version's digest.

    Args:
        known: What is there.
        wanted: The version asked for; None: the active one if nothing changed, else the next patch.
        digest_as: Digest of the bundle built as some version.

    Raises:
        Conflict: The wanted version exists with other code.
    """
    digests = known.digests or {}
    if wanted is not None:
        there = digests.get(wanted)
        if there is not None and there != digest_as(wanted):
            raise Conflict(
                f"version {wanted} is there with other code, and a version never changes",
                fix="give it a new version, or leave --version out",
                version=wanted,
            )
        return Plan(wanted, changed=there is None or known.active != wanted)
    if known.active is not None and digests.get(known.active) == digest_as(known.active):
        return Plan(known.active, changed=False)
    if not digests:
        return Plan(FIRST_VERSION, changed=True)
    return Plan(str(max(Version.parse(version) for version in digests).next_patch()), changed=True)


def describe(controller: Controller, name: str) -> dict[str, Any] | None:
    """Return what the controller knows of a function, or None."""
    try:
        return controller.ask("function.describe", {"name": name})
    except NotFound:
        return None


def _quiet(_text: str) -> AbstractContextManager[object]:
    return nullcontext()


def deploy(
    controller: Controller,
    path: str,
    *,
    say: Callable[[str], None],
    busy: Callable[[str], AbstractContextManager[object]] = _quiet,
    name: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    runtime: str | None = None,
    overrides: Overrides | None = None,
    must_exist: bool = False,
) -> list[dict[str, Any]]:
    """Deploy the function or functions of a file or folder and return what became of each.

    Returns:
        Maps with name, version, digest (hexadecimal), changed and tests.

    Raises:
        OsirisError: It can't be built, fails its tests, is refused, or nobody answers.
    """
    from osiris_mesh.runtime.build import build_bundles  # noqa: PLC0415 - only a deployment builds
    from osiris_mesh.runtime.bundle import Bundle  # noqa: PLC0415
    from osiris_mesh.runtime.lock import lock_dependencies  # noqa: PLC0415

    def built(function: str | None, lock: Callable[[Sequence[str], str], bytes]) -> list[Bundle]:
        return build_bundles(
            path,
            function=function,
            name=name,
            namespace=namespace,
            version=version or FIRST_VERSION,
            runtime=runtime,
            overrides=overrides,
            lock=lock,
        )

    def build(function: str | None = None) -> list[Bundle]:
        def lock(requirements: Sequence[str], python: str) -> bytes:
            # Built without a lock first, to learn which functions these are, and so which lock came before.
            names = [bundle.spec.name for bundle in built(function, lambda _requirements, _python: b"")]
            earlier = next(filter(None, (earlier_lock(controller, each) for each in names)), b"")
            with busy(f"locking {len(requirements)} {'dependency' if len(requirements) == 1 else 'dependencies'}"):
                return lock_dependencies(requirements, python, prefer=earlier)

        return built(function, lock)

    if must_exist and name is not None and "::" not in path:
        # In a file with several functions, the one of that name is meant.
        try:
            bundles = build(name.rpartition("/")[2])
        except NotFound:
            bundles = build()
    else:
        bundles = build()
    return [
        _deploy_one(controller, bundle, version, say, busy, Bundle.make, must_exist=must_exist) for bundle in bundles
    ]


def redeploy(
    controller: Controller,
    name: str,
    limits: Mapping[str, int | bool],
    *,
    say: Callable[[str], None],
    busy: Callable[[str], AbstractContextManager[object]] = _quiet,
) -> dict[str, Any]:
    """Deploy the active version's code anew with other limits, as the next version.

    Args:
        controller: Where.
        name: Full name of a function.
        limits: Fields of its specification and their new values.
        say: Takes progress.
        busy: Shows what takes long.

    Raises:
        NotFound: No such function, or nobody has its bundle.
        OsirisError: Its tests fail, it is refused, or nobody answers.
    """
    from osiris_mesh.runtime.bundle import Bundle  # noqa: PLC0415 - only a deployment builds

    described = controller.ask("function.describe", {"name": name})
    if not described.get("digest"):
        raise NotFound(f"{name} has no active version", fix=f"osiris-mesh rollback {name} --to VERSION")
    there = Bundle.parse(controller.bundle(bytes.fromhex(described["digest"])))
    spec = replace(there.spec, digest=b"", **limits)  # type: ignore[arg-type]  # names and values come from one table
    changed = Bundle.make(spec, there.files, lock=there.lock, tests=there.tests, roots=there.roots)
    return _deploy_one(controller, changed, None, say, busy, Bundle.make, must_exist=True)


def earlier_lock(controller: Controller, name: str) -> bytes:
    """Return the lock of a function's active version, or nothing.

    Its versions are kept where they still fit, so that deploying unchanged code again is no change, whatever was
    released in between.
    """
    described = describe(controller, name)
    if described is None or not described.get("digest"):
        return b""
    from osiris_mesh.runtime.bundle import Bundle  # noqa: PLC0415 - only a deployment of known code needs it

    try:
        return Bundle.parse(controller.bundle(bytes.fromhex(described["digest"]))).lock
    except NotFound:
        # This node no longer has the bundle and no other answers: a fresh lock does as well.
        return b""


def _deploy_one(
    controller: Controller,
    built: Bundle,
    wanted: str | None,
    say: Callable[[str], None],
    busy: Callable[[str], AbstractContextManager[object]],
    make: Callable[..., Bundle],
    *,
    must_exist: bool,
) -> dict[str, Any]:
    name = built.spec.name
    described = describe(controller, name)
    if described is None and must_exist:
        raise NotFound(
            f"there is no function {name} to update", fix=f"deploy it: osiris-mesh deploy PATH --name {name}"
        )
    variants: dict[str, Bundle] = {built.spec.version: built}

    def built_as(version: str) -> Bundle:
        if version not in variants:
            spec = replace(built.spec, version=version)
            variants[version] = make(spec, built.files, lock=built.lock, tests=built.tests, roots=built.roots)
        return variants[version]

    plan = choose_version(Known.of(described), wanted, lambda version: built_as(version).digest.hex())
    if not plan.changed:
        digest = built_as(plan.version).digest.hex()
        return {"name": name, "version": plan.version, "digest": digest, "changed": False, "tests": None}
    version = plan.version
    for _ in range(_TRIES):
        bundle = built_as(version)
        say(f"{name} {version}: {len(bundle.data)} bytes, {len(bundle.tests)} tests …")
        try:
            with busy(f"uploading and testing {name} {version}"):
                answer = _publish(controller, bundle)
        except CheckFailed as error:
            for line in failed_tests(error):
                say(clean(line))
            raise
        except Conflict as error:
            # A removed function's numbers stay taken: they never mean other code again.
            if wanted is not None or error.details.get("why") != "exists":
                raise
            version = str(Version.parse(version).next_patch())
            continue
        return {
            "name": name,
            "version": version,
            "digest": bundle.digest.hex(),
            "changed": True,
            "tests": answer.get("tests"),
            "height": answer.get("height"),
            "copies": answer.get("copies"),
        }
    raise Conflict(f"{name} has no free version near {version}", fix="give one with --version")


def _publish(controller: Controller, bundle: Bundle) -> dict[str, Any]:
    from osiris_mesh.ledger.kinds import FunctionActivate, FunctionPublish  # noqa: PLC0415 - brings NaCl

    spec = bundle.spec
    controller.mesh.upload(bundle.data, timeout=_UPLOAD_SECONDS)
    entries = controller.sign([FunctionPublish(spec.to_wire()), FunctionActivate(spec.name, spec.version, spec.digest)])
    return controller.ask("function.deploy", {"digest": bundle.digest, "entries": entries}, timeout=_TESTS_SECONDS)


def failed_tests(error: OsirisError) -> list[str]:
    """Return a line for each test that did not hold, from a :class:`CheckFailed` of a deployment."""
    report = error.details.get("tests")
    results = report.get("results", []) if isinstance(report, dict) else []
    return [
        f"  failed: {item.get('name')}: expected {item.get('expected')}, got {item.get('got')}"
        for item in results
        if isinstance(item, dict) and not item.get("ok")
    ]
