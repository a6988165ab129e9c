"""A mesh without a controller."""

from __future__ import annotations

import asyncio
import inspect
import time
from pathlib import Path
from typing import Any

import pytest

import osiris_sdk
from osiris_sdk import (
    AsyncMesh,
    DeadlineExceeded,
    FunctionError,
    LimitExceeded,
    Mesh,
    NotFound,
    UsageError,
    function,
)
from osiris_sdk.marking import Marks, marks_of


def tokens(text: str, *, lower: bool = True) -> list[str]:
    """Return the words of a text.

    More of it.
    """
    return text.lower().split() if lower else text.split()


def count(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in osiris_sdk.current().call("text/tokens", text):
        found[word] = found.get(word, 0) + 1
    return found


async def acount(text: str) -> int:
    mesh = osiris_sdk.current_async()
    first, second = await asyncio.gather(mesh.call("text/tokens", text), mesh.call("text/tokens", "a b"))
    return len(first) + len(second)


def fails(kind: str) -> Any:
    if kind == "value":
        raise ValueError("no such thing")
    if kind == "exit":
        raise SystemExit(3)
    return {1: 2} if kind == "key" else object()


def deeper() -> int:
    return osiris_sdk.current().call("text/deeper")


async def blocks(text: str) -> list[str]:
    return osiris_sdk.current().call("text/tokens", text)


@function(name="other/named", idempotent=True, timeout=0.02)
def slow(seconds: float = 0.0) -> str:
    time.sleep(seconds)
    return "done"


@function
def bare() -> None: ...


TABLE = {
    "text/tokens": tokens,
    "text/count": count,
    "text/acount": acount,
    "text/fails": fails,
    "text/deeper": deeper,
    "text/slow": slow,
    "text/blocks": blocks,
    "plain": lambda a, b=2: [a, b],
}


@pytest.fixture
def local() -> Mesh:
    return Mesh.local(TABLE)


def test_calls_bind_and_encode_as_in_a_mesh(local: Mesh) -> None:
    assert local.call("text/tokens", "A b") == ["a", "b"]
    assert local.call("text/tokens", "A b", lower=False) == ["A", "b"]
    assert local.call("plain", (1, b"x")) == [[1, b"x"], 2]  # a tuple arrives as a list
    assert local.options(version="^1").call("plain", 1) == [1, 2]
    for arguments, said in (
        ((), r"tokens\(\) missing 1 required positional argument: 'text'"),
        ((1,), r"tokens\(\) argument 'text': expected str, got int"),
        (({1: 2},), "expected str"),
    ):
        with pytest.raises(TypeError, match=said):
            local.call("text/tokens", *arguments)
    with pytest.raises(TypeError, match="only text keys"):
        local.call("plain", {1: 2})
    with pytest.raises(NotFound, match="there is no function default/none"):
        local.call("none")


def test_functions_call_functions(local: Mesh) -> None:
    assert local.call("text/count", "a b A") == {"a": 2, "b": 1}
    assert local.call("text/acount", "one two") == 4
    with pytest.raises(FunctionError, match="would stop everything else"):
        local.call("text/blocks", "x")
    with pytest.raises(UsageError):
        osiris_sdk.current()


async def test_an_async_function_runs_even_under_a_running_loop(local: Mesh) -> None:
    assert local.call("text/acount", "one two") == 4
    assert local.call("text/count", "a") == {"a": 1}


def test_exceptions_are_wrapped(local: Mesh) -> None:
    with pytest.raises(FunctionError) as caught:
        local.call("text/fails", "value")
    error = caught.value
    assert (error.type, error.message) == ("ValueError", "no such thing")
    assert "test_local.py" in error.traceback
    assert "osiris_sdk/" not in error.traceback
    assert isinstance(error.__cause__, ValueError)
    for kind, said in (("exit", "SystemExit"), ("key", "only text keys"), ("object", "can't be sent")):
        with pytest.raises(FunctionError, match=said):
            local.call("text/fails", kind)


def test_chains_are_bounded(local: Mesh) -> None:
    with pytest.raises(FunctionError) as caught:
        local.call("text/deeper")
    assert "LimitExceeded" in str(caught.value)


def test_marks_change_nothing_of_the_function_and_count(local: Mesh) -> None:
    assert slow() == "done"
    assert marks_of(slow) == Marks("other/named", idempotent=True, timeout=0.02)
    assert marks_of(bare) == Marks()
    assert marks_of(tokens) == Marks()
    assert local.resolve("text/slow").idempotent
    assert local.call("text/slow") == "done"
    with pytest.raises(DeadlineExceeded):
        local.call("text/slow", 0.03)
    with pytest.raises(UsageError):
        function(name="not a name")
    with pytest.raises(UsageError):
        function(timeout=0)


def test_it_looks_like_the_function(local: Mesh) -> None:
    remote = local.function("text/tokens")
    assert remote.__doc__ == "Return the words of a text."
    assert str(inspect.signature(remote)) == "(text: 'str', *, lower: 'bool' = Ellipsis) -> 'list[str]'"
    assert remote("A") == ["a"]
    assert [row["name"] for row in local.list()][-1] == "text/tokens"
    assert local.describe("text/tokens")["call"].startswith("def tokens(text: str")
    assert list(local.map("text/tokens", ["a b", "c"])) == [["a", "b"], ["c"]]
    assert local.detailed("text/tokens", ["a"])[1]["node"] == "local"
    assert list(local.logs("text/tokens")) == []
    for refused in (lambda: local.upload(b"x"), lambda: local.request("node.status"), lambda: next(local.events())):
        with pytest.raises(UsageError):
            refused()


def test_files_and_folders_have_the_names_of_a_deployment(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    (folder / "parts").mkdir(parents=True)
    (folder / "words.py").write_text(
        "from parts.cut import cut\n"
        "from osiris_sdk import function\n"
        "def words(text: str) -> list:\n    return cut(text)\n"
        "@function(name='other/shout')\ndef loud(text: str) -> str:\n    return text.upper()\n"
        "def _private(): ...\n"
    )
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "cut.py").write_text("def cut(text):\n    return text.split()\n")
    (folder / "test_words.py").write_text("raise RuntimeError('tests are not imported')\n")
    local = Mesh.local(folder, {"text/more": tokens})
    assert [row["name"] for row in local.list()] == ["other/shout", "text/more", "text/words"]
    assert local.call("text/words", "a b") == ["a", "b"]
    with pytest.raises(TypeError, match="expected str"):
        local.call("text/words", 1)
    assert [row["name"] for row in Mesh.local(folder / "words.py").list()] == ["other/shout", "text/words"]
    with pytest.raises(NotFound):
        Mesh.local(folder / "none.py")
    with pytest.raises(NotFound):
        Mesh.local(folder / "parts" / "__init__.py".replace("__init__", "empty"))
    with pytest.raises(UsageError):
        Mesh.local({"a/b": 3})  # type: ignore[dict-item]


async def test_awaited() -> None:
    async with AsyncMesh.local(TABLE) as mesh:
        assert await mesh.call("text/tokens", "A") == ["a"]
        assert await mesh.call("text/count", "a A") == {"a": 2}
        assert await mesh.call("text/acount", "one two") == 4
        assert [result async for result in mesh.map("text/tokens", ["a", "b"])] == [["a"], ["b"]]
        with pytest.raises(FunctionError, match="would stop everything else"):
            await mesh.call("text/blocks", "x")
        with pytest.raises(FunctionError, match="no such thing"):
            await mesh.call("text/fails", "value")
        with pytest.raises(DeadlineExceeded):
            await mesh.call("text/slow", 0.1)
        with pytest.raises(FunctionError, match="LimitExceeded"):
            await mesh.call("text/deeper")
        assert [line async for line in mesh.logs()] == []
        assert LimitExceeded.code == "limit"
