from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from osiris_mesh.errors import NotFound, OsirisError, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.runtime.build import Overrides, build_bundle, build_bundles

HEADER = """\
# /// script
# requires-python = ">=3.11"
# dependencies = [{dependencies}]
# [tool.osiris.function]
# memory = "64MiB"
# timeout = "1.5s"
# concurrency = 2
# min = 1
# max = 3
# idle = "10m"
# idempotent = true
# network = true
# [[tool.osiris.function.test]]
# args = [1]
# kwargs = {{ b = 2 }}
# expect = 3
# ///
"""
ADD = 'def add(a: int, b: int = 2) -> int:\n    """Add two\n    numbers.\n\n    Slowly."""\n    return a + b\n'


def write(folder: Path, text: str, name: str = "add.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def test_everything_declared_is_in_the_specification(tmp_path: Path) -> None:
    path = write(tmp_path / "maths", HEADER.format(dependencies="") + ADD)
    bundle = build_bundle(path, version="1.2.3", runtime="python3.12")
    spec = bundle.spec
    assert (spec.name, spec.version, spec.entry, spec.runtime) == ("maths/add", "1.2.3", "add.py::add", "python3.12")
    assert (spec.memory, spec.timeout_ms, spec.concurrency) == (64 << 20, 1500, 2)
    assert (spec.min_instances, spec.max_instances, spec.idle_ms) == (1, 3, 600_000)
    assert (spec.idempotent, spec.network, spec.environment) == (True, True, b"")
    assert spec.description == "Add two numbers."
    assert spec.signature == [[["a", 1, False, "int"], ["b", 1, True, "int"]], "int"]
    assert [(test.args, test.kwargs, test.expect) for test in bundle.tests] == [((1,), {"b": 2}, 3)]
    assert spec.digest == bundle.digest


MARKED = """\
import osiris_sdk as sdk
from osiris_sdk import function as mark
from elsewhere import function

@mark(name="mail/send", idempotent=True, timeout=1.5)
def send(): ...

@sdk.function(timeout=3)
async def wait(): ...

@mark
def bare(): ...

@function(anything=1, name=f())
def other(): ...
"""


def test_a_mark_is_read_from_the_text(tmp_path: Path) -> None:
    path = write(tmp_path / "post", MARKED)
    specs = {bundle.spec.entry.partition("::")[2]: bundle.spec for bundle in build_bundles(path)}
    assert {key: spec.name for key, spec in specs.items()} == {
        "send": "mail/send",
        "wait": "post/wait",
        "bare": "post/bare",
        "other": "post/other",
    }
    assert (specs["send"].idempotent, specs["send"].timeout_ms) == (True, 1500)
    assert (specs["wait"].idempotent, specs["wait"].timeout_ms) == (False, 3000)
    assert (specs["bare"].idempotent, specs["bare"].timeout_ms) == (False, 60_000)
    # What is said apart from the function counts more.
    said = build_bundle(f"{path}::send", namespace="n", overrides=Overrides(idempotent=False, timeout="2s")).spec
    assert (said.name, said.idempotent, said.timeout_ms) == ("n/send", False, 2000)
    assert build_bundle(f"{path}::send", name="a/b").spec.name == "a/b"
    header = "# /// script\n# [tool.osiris.function]\n# timeout = '4s'\n# ///\n"
    declared = write(tmp_path / "declared", header + MARKED)
    assert build_bundle(f"{declared}::send").spec.timeout_ms == 4000


@pytest.mark.parametrize(
    "mark",
    [
        "name=NAME",
        "name='not a name'",
        "name=3",
        "idempotent=1",
        "timeout=0",
        "timeout='1s'",
        "timeout=True",
        "'a/b'",
        "**more",
        "other=1",
    ],
)
def test_a_mark_that_would_have_to_run_is_refused(tmp_path: Path, mark: str) -> None:
    text = f"from osiris_sdk import function\n@function({mark})\ndef f(): ...\n"
    with pytest.raises(UsageError):
        build_bundles(write(tmp_path / "post", text))


def test_the_same_code_anywhere_gives_the_same_bytes(tmp_path: Path) -> None:
    one = build_bundle(write(tmp_path / "a" / "maths", ADD))
    path = write(tmp_path / "b" / "maths", ADD)
    path.touch()
    assert build_bundle(path).data == one.data
    assert str(tmp_path).encode() not in one.data
    assert build_bundle(write(tmp_path / "c" / "maths", ADD + "\n")).digest != one.digest


def test_the_command_line_takes_precedence(tmp_path: Path) -> None:
    path = write(tmp_path / "maths", HEADER.format(dependencies="") + ADD)
    overrides = Overrides(memory="128MiB", timeout="2s", min=0, max=9, concurrency=4, idempotent=False)
    spec = build_bundle(path, overrides=overrides).spec
    assert (spec.memory, spec.timeout_ms, spec.concurrency, spec.idempotent) == (128 << 20, 2000, 4, False)
    assert (spec.min_instances, spec.max_instances) == (0, 9)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "maths/add"),
        ({"name": "addNumbers"}, "default/addNumbers"),
        ({"name": "sums/plus"}, "sums/plus"),
        ({"name": "acme.com/sums/plus"}, "acme.com/sums/plus"),
        ({"namespace": "sums"}, "sums/add"),
        ({"namespace": "sums", "name": "plus"}, "sums/plus"),
    ],
)
def test_names(tmp_path: Path, options: dict[str, str], name: str) -> None:
    assert build_bundle(write(tmp_path / "maths", ADD), **options).spec.name == name


def test_a_file_with_several_functions(tmp_path: Path) -> None:
    path = write(
        tmp_path / "maths", "def one(): ...\nasync def two(): ...\ndef _three(): ...\nclass Four:\n  def f(self): ...\n"
    )
    assert [bundle.spec.name for bundle in build_bundles(path)] == ["maths/one", "maths/two"]
    assert [bundle.spec.name for bundle in build_bundles(path, name="space")] == ["space/one", "space/two"]
    assert build_bundle(f"{path}::two", name="deux").spec.name == "default/deux"
    with pytest.raises(UsageError, match="several functions: one, two"):
        build_bundle(path)
    with pytest.raises(NotFound, match="it has: one, two"):
        build_bundle(path, function="_three")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", "add.py, line 1"),
        ("x = 1\n\ndef f()\n    return 1\n", "add.py, line 3"),
        ("x = 1\n", "defines no public function"),
        ("# /// script\n# [tool.osiris.function]\n# memroy = '1MiB'\n# ///\n" + ADD, "did you mean 'memory'"),
        ("# /// script\n# dependences = []\n# ///\n" + ADD, "did you mean 'dependencies'"),
        ("# /// script\n# [tool.osiris.function]\n# memory = '1'\n# ///\n" + ADD, "'memory' .* is not a size"),
        ("# /// script\n# [tool.osiris.function]\n# memory = 1024\n# ///\n" + ADD, "is not a size"),
        ("# /// script\n# [tool.osiris.function]\n# memory = '1MiB'\n# ///\n" + ADD, "memory of maths/add is"),
        ("# /// script\n# [tool.osiris.function]\n# min = 9\n# ///\n" + ADD, "above max_instances"),
        ("# /// script\n# [tool.osiris.function]\n# min = true\n# ///\n" + ADD, "not a whole number"),
        ("# /// script\n# [tool.osiris.function]\n# idempotent = 1\n# ///\n" + ADD, "neither true nor false"),
        ("# /// script\n# requires-python = '<3'\n# ///\n" + ADD, "requires Python <3"),
        ("# /// script\n# requires-python = 'x'\n# ///\n" + ADD, "does not parse"),
        ("# /// script\n# a = \n# ///\n" + ADD, "is not TOML"),
        ("# /// script\n# dependencies = []\n# ///\n\n# /// script\n# x = 1\n# ///\n" + ADD, "2 script blocks"),
        ("# /// script\n# [[tool.osiris.function.test]]\n# args = [1]\n# ///\n" + ADD, "either 'expect' or 'raises'"),
        ("# /// script\n# [[tool.osiris.function.test]]\n# function = 'x'\n# expect = 1\n# ///\n" + ADD, "not here"),
        ("# /// script\n# [[tool.osiris.function.test]]\n# args = [1979-05-27]\n# expect = 1\n# ///\n" + ADD, "date"),
        ("# /// script\n# dependencies = ['a b c']\n# ///\n" + ADD, "'a b c' does not parse"),
        ("# /// script\n# dependencies = ['a @ file:///tmp/a']\n# ///\n" + ADD, "place instead of a version"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(OsirisError, match=words):
        build_bundle(write(tmp_path / "maths", text))


def test_code_is_never_run(tmp_path: Path) -> None:
    path = write(tmp_path / "maths", "import os\nos.abort()\n@os._exit\ndef f(a=os.abort()): ...\n")
    assert build_bundle(path).spec.name == "maths/f"


def test_dependencies_are_locked_for_the_runtime(tmp_path: Path) -> None:
    asked: list[tuple[tuple[str, ...], str]] = []

    def lock(requirements: object, python: str) -> bytes:
        asked.append((tuple(requirements), python))
        return b"six==1.17.0 \\\n    --hash=sha256:" + b"0" * 64 + b"\n"

    path = write(tmp_path / "maths", HEADER.format(dependencies="'six>=1'") + ADD)
    bundle = build_bundle(path, runtime="python3.12", lock=lock)
    assert asked == [(("six>=1",), "3.12")]
    assert bundle.lock.startswith(b"six==")
    assert len(bundle.spec.environment) == 32


def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    write(root, '[project]\nname = "p"\n[tool.osiris.function]\nmemory = "64MiB"\n', "pyproject.toml")
    write(root, "from helpers.blur import blur\ndef sharpen(x): ...\n", "main.py")
    write(root / "helpers", "", "__init__.py")
    write(root / "helpers", "def blur(x): ...\n", "blur.py")
    write(root, "def test_x(): ...\n", "test_main.py")
    write(root / ".git", "x", "config")
    write(root / "__pycache__", "x", "main.pyc")
    write(root / ".venv", "x", "pyvenv.cfg")
    return root


def test_a_folder(tmp_path: Path) -> None:
    bundle = build_bundle(folder(tmp_path))
    assert bundle.spec.name == "pictures/sharpen"
    assert [path for path, _ in bundle.files] == [
        "helpers/__init__.py",
        "helpers/blur.py",
        "main.py",
        "pyproject.toml",
        "test_main.py",
    ]
    assert bundle.spec.memory == 64 << 20


def test_a_folder_names_its_entry(tmp_path: Path) -> None:
    root = folder(tmp_path)
    write(root, '[tool.osiris.function]\nentry = "helpers/blur.py::blur"\n', "pyproject.toml")
    assert build_bundle(root).spec.entry == "helpers/blur.py::blur"


def test_a_folder_may_not_point_outside(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "key").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="symbolic link"):
        build_bundle(root)


def test_what_is_no_regular_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    root = folder(tmp_path)
    os.mkfifo(root / "pipe")
    with pytest.raises(UsageError, match="pipe is a FIFO"):
        build_bundle(root)
    (root / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(root / "s"))
        with pytest.raises(UsageError, match="s is a socket"):
            build_bundle(root)
    (root / "s").unlink()
    os.mkfifo(root / "late.py")
    with pytest.raises(UsageError, match="FIFO"):
        build_bundle(root / "late.py")


def test_a_vanished_or_unreadable_file_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path)

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match="can't be read: Permission denied"):
        build_bundle(root)


@pytest.mark.parametrize(
    "name", ["keys/node.key", "keys/anything.key", "run/node.sock", "sub/keys/user.key", "sub/run/node.lock"]
)
def test_the_home_of_a_node_is_never_bundled(tmp_path: Path, name: str) -> None:
    root = folder(tmp_path)
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("x")
    with pytest.raises(UsageError, match="looks like the home of a node"):
        build_bundle(root)
    with pytest.raises(UsageError, match="looks like the home of a node"):
        build_bundles((root / name).parent.parent)


def test_the_keys_folder_of_a_home_is_refused_itself(tmp_path: Path) -> None:
    root = folder(tmp_path)
    root = root.rename(tmp_path / "keys")
    KeyPair.generate().save(root / "node.key")
    with pytest.raises(UsageError, match="looks like the home of a node"):
        build_bundle(root)


@pytest.mark.parametrize("name", ["my.key", "backup.txt"])
def test_a_private_key_is_never_bundled(tmp_path: Path, name: str) -> None:
    root = folder(tmp_path)
    KeyPair.generate().save(root / name)
    with pytest.raises(UsageError, match="looks like a private key"):
        build_bundle(root)


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        build_bundle(tmp_path / "none.py")
