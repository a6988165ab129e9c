"""A bundle: one version of one function as a single canonical msgpack document.

    {"manifest": {"format": 1, "spec": <FunctionSpec without a digest>, "roots": [folder…]},
     "files":    [[path, bytes]…]         sorted by path
     "lock":     bytes                    hash-locked requirements, empty without dependencies
     "tests":    [[name, args, kwargs, raises, expect]…]}

The same input gives the same bytes: nothing in it depends on the time, the machine or the order of a folder. Its
SHA-256 is its name in the library and stands in the ledger entry that publishes the version, so that the entry's
signature covers the code.

There is nothing to unpack but paths and bytes, and every one is checked here: no absolute path, no ``..``, no
backslash, no control character, no path twice, no path that is also a folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.lockfile import check_lock
from osiris_mesh.runtime.metadata import MockTest

__all__ = ["BUNDLE_LIMITS", "MAX_FILES", "Bundle", "check_path"]

BUNDLE_LIMITS: Final = Limits(size=64 << 20, depth=64, count=65_536)
"""A bundle has at most 64 MiB."""

MAX_FILES: Final = 4096
_FORMAT: Final = 1
_MAX_ROOTS: Final = 16
_MAX_PATH: Final = 1024


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        data: The document itself.
        digest: Its SHA-256.
        spec: The function, with :attr:`digest` filled in.
        roots: Folders of the bundle that the interpreter searches for modules; an empty text is the bundle itself.
        files: Path and content of each file, sorted by path.
        lock: Hash-locked requirements; empty without dependencies.
        tests: Mock-data tests of this function.
    """

    data: bytes = field(repr=False)
    digest: bytes
    spec: FunctionSpec
    roots: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    lock: bytes = field(repr=False)
    tests: tuple[MockTest, ...] = field(repr=False)

    @cached_property
    def entry_file(self) -> str:
        """Path of the file that defines the function."""
        return self.spec.entry.partition("::")[0]

    @cached_property
    def function(self) -> str:
        """Name of the function in its file."""
        return self.spec.entry.partition("::")[2]

    @classmethod
    def make(
        cls,
        spec: FunctionSpec,
        files: Iterable[tuple[str, bytes]],
        *,
        lock: bytes = b"",
        tests: Iterable[MockTest] = (),
        roots: Iterable[str] = ("",),
    ) -> Bundle:
        """Build the document for ``spec``, whose digests are filled in here.

        Raises:
            UsageError: A path, a size, a test or a field of the specification that a bundle can't hold.
        """
        environment = sha256(lock).digest() if lock else b""
        bare = replace(spec, digest=b"", environment=environment)
        bare.check()
        data = pack(
            {
                "manifest": {"format": _FORMAT, "spec": bare.to_wire(), "roots": list(roots)},
                "files": [[path, content] for path, content in sorted(files)],
                "lock": lock,
                "tests": [
                    [test.name, list(test.args), _sorted(dict(test.kwargs)), test.raises, _sorted(test.expect)]
                    for test in tests
                ],
            }
        )
        try:
            return cls.parse(data)
        except RemoteProtocolError as error:
            raise UsageError(f"{spec.name} can't be bundled: {error.what}") from None

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Read a bundle of any origin.

        Raises:
            RemoteProtocolError: Not a bundle, past a bound, in another form than the canonical one, or a bad path.
            UsageError: Its specification has a value out of its range.
        """
        document = unpack_canonical(data, BUNDLE_LIMITS)
        if not isinstance(document, dict) or list(document) != ["manifest", "files", "lock", "tests"]:
            raise RemoteProtocolError("a bundle has the parts manifest, files, lock and tests")
        spec, roots = _manifest(document["manifest"])
        files = _files(document["files"])
        lock = document["lock"]
        if not isinstance(lock, bytes):
            raise RemoteProtocolError("the lock of a bundle is not bytes")
        if lock:
            check_lock(lock)
        if spec.environment != (sha256(lock).digest() if lock else b""):
            raise RemoteProtocolError("the lock of a bundle is not the one its specification names")
        file, separator, function = spec.entry.partition("::")
        if not separator or not function.isidentifier() or file not in dict(files):
            raise RemoteProtocolError(f"the entry {spec.entry!r} is not in the bundle")
        digest = sha256(data).digest()
        return cls(data, digest, replace(spec, digest=digest), roots, files, lock, _tests(document["tests"]))


def check_path(path: object) -> str:
    """Return ``path`` if a bundle may hold it.

    Raises:
        RemoteProtocolError: Absolute, ``..``, a backslash, a control character, too long, or not a text.
    """
    if not isinstance(path, str) or not path or len(path.encode("utf-8", "surrogatepass")) > _MAX_PATH:
        raise RemoteProtocolError(f"{path!r:.80} is not a path of a bundle")
    parts = path.split("/")
    if any(part in {"", ".", ".."} or len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts):
        raise RemoteProtocolError(f"the path {path!r} leaves the bundle or has an empty part")
    if "\\" in path or any(not character.isprintable() for character in path):
        raise RemoteProtocolError(f"the path {path!r} has a letter that is not allowed")
    if len(parts[0]) == 2 and parts[0][1] == ":":
        raise RemoteProtocolError(f"the path {path!r} names a drive")
    return path


def _manifest(value: Any) -> tuple[FunctionSpec, tuple[str, ...]]:
    if not isinstance(value, dict) or list(value) != ["format", "spec", "roots"]:
        raise RemoteProtocolError("the manifest of a bundle has the parts format, spec and roots")
    if type(value["format"]) is not int or value["format"] != _FORMAT:
        raise RemoteProtocolError(f"a bundle of format {value['format']!r:.20}, this version reads {_FORMAT}")
    if not isinstance(value["spec"], bytes):
        raise RemoteProtocolError("the specification of a bundle is not bytes")
    spec = FunctionSpec.from_wire(value["spec"])
    if spec.digest:
        raise RemoteProtocolError("the specification inside a bundle can't name the bundle's own digest")
    roots = value["roots"]
    if not isinstance(roots, list) or not 1 <= len(roots) <= _MAX_ROOTS:
        raise RemoteProtocolError("the roots of a bundle are not a short list")
    return spec, tuple(root if root == "" else check_path(root) for root in roots)


def _files(value: Any) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_FILES:
        raise RemoteProtocolError(f"a bundle has between 1 and {MAX_FILES} files")
    files: list[tuple[str, bytes]] = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[1], bytes):
            raise RemoteProtocolError("a file of a bundle is not a path and bytes")
        files.append((check_path(item[0]), item[1]))
    paths = [path for path, _ in files]
    for before, path in pairwise(paths):
        if path <= before:
            raise RemoteProtocolError(f"the files of a bundle are not sorted, or hold {path!r} twice")
    present = set(paths)
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:depth]) in present for depth in range(1, len(parts))):
            raise RemoteProtocolError(f"the path {path!r} goes through a file")
    return tuple(files)


def _tests(value: Any) -> tuple[MockTest, ...]:
    if not isinstance(value, list) or len(value) > 1000:
        raise RemoteProtocolError("the tests of a bundle are not a list of at most 1000")
    tests: list[MockTest] = []
    for item in value:
        match item:
            case [str(name), list(args), dict(kwargs), str(raises), expect]:
                tests.append(MockTest("", name, tuple(args), kwargs, expect, raises))
            case _:
                raise RemoteProtocolError("a test of a bundle is not [name, args, kwargs, raises, expect]")
    return tuple(tests)


def _sorted(value: Any) -> Any:
    """Return ``value`` with its maps in the order of their keys, so that the order of a file does not matter."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
