"""Every example does what its own mock-data tests say, as a plain function."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from osiris_mesh.runtime.metadata import MockTest, from_script
from osiris_mesh.runtime.source import public_functions

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*.py") if path.name != "make_picture.py")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def function_of(path: Path) -> Callable[..., Any]:
    (found,) = public_functions(path.read_bytes(), path.name)
    function: Callable[..., Any] = getattr(load(path), found.name)
    return function


CASES = [
    pytest.param(path, test, id=f"{path.relative_to(EXAMPLES)}: {test.name}")
    for path in FILES
    for test in from_script(path.read_text("utf-8"), path.name).tests
]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(EXAMPLES)) for path in FILES])
def test_every_example_has_tests_one_function_and_a_description(path: Path) -> None:
    declared = from_script(path.read_text("utf-8"), path.name)
    (found,) = public_functions(path.read_bytes(), path.name)
    assert len(declared.tests) >= 2
    assert found.description
    assert found.name == path.stem
    assert (declared.limits or {}).get("idempotent") is True


@pytest.mark.parametrize(("path", "test"), CASES)
def test_example(path: Path, test: MockTest) -> None:
    function = function_of(path)
    if test.raises:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its name is what is compared
            function(*test.args, **test.kwargs)
        assert type(caught.value).__name__ == test.raises
    else:
        assert function(*test.args, **test.kwargs) == test.expect


def test_sharpening_the_picture_really_sharpens_it() -> None:
    picture = (EXAMPLES / "image-processing" / "picture.png").read_bytes()
    sharpened = function_of(EXAMPLES / "image-processing" / "sharpen.py")(picture, 1.5)
    with Image.open(io.BytesIO(picture)) as before, Image.open(io.BytesIO(sharpened)) as after:
        assert (after.size, after.mode, after.format) == (before.size, before.mode, "PNG")
        assert ImageChops.difference(before, after).getbbox() is not None


def test_the_committed_picture_is_what_its_script_renders() -> None:
    script = load(EXAMPLES / "image-processing" / "make_picture.py")
    rendered = script.encode(script.blurred(script.scene()))
    path = EXAMPLES / "image-processing" / "picture.png"
    assert path.stat().st_size < 100_000
    with Image.open(io.BytesIO(rendered)) as one, Image.open(path) as other:
        assert (one.size, one.mode) == (other.size, other.mode)
        # Sine and root may differ in the last bit from machine to machine, and so a colour by one.
        assert max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 1


def test_the_calling_function_calls_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    path = EXAMPLES / "text" / "frequencies.py"
    module = load(path)
    tokens = function_of(EXAMPLES / "text" / "tokens.py")
    asked: list[str] = []

    class Inside:
        def call(self, name: str, text: str) -> list[str]:
            asked.append(name)
            return tokens(text)

    monkeypatch.setattr(module.osiris_sdk, "current", Inside, raising=False)
    assert module.frequencies("the mesh and the node", 1) == {"the": 2}
    assert asked == ["text/tokens"]
