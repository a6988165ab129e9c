"""Schemas say of arguments what binding says, and arguments land on the parameters they name."""

from __future__ import annotations

import ast

import jsonschema
import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.function.signature import Signature
from osiris_mesh.gateway.mcp.schema import arguments_of, input_schema, output_schema, schema_of


def signature(text: str) -> Signature:
    (node,) = ast.parse(f"{text}: ...").body
    return Signature.from_ast(node, f"{text}: ...")


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        ("int", [1], ["x", 1.5]),
        ("float", [1, 1.5], ["x"]),
        ("str", ["x"], [1]),
        ("bool", [True], [1]),
        ("None", [None], [0]),
        ("bytes", [{"$bytes": "AA=="}], ["AA==", {"$bytes": 1}]),
        ("list", [[1, "x"]], [{}]),
        ("list[int]", [[1]], [["x"]]),
        ("dict[str, list[int]]", [{"a": [1]}], [{"a": 1}]),
        ("tuple[int, str]", [[1, "x"]], [[1], [1, 2]]),
        ("tuple[int, ...]", [[1, 2, 3]], [["x"]]),
        ("int | None", [1, None], ["x"]),
        ("typing.Optional[str]", ["x", None], [1]),
        ("Union[int, str, None]", [1, "x", None], [[]]),
        ("Literal['a', 2]", ["a", 2], ["b"]),
        ("Annotated[int, 'steps']", [1], ["x"]),
        ("'int'", [1], ["x"]),
    ],
)
def test_hints(hint, good, bad):
    schema = schema_of(hint)
    check = jsonschema.Draft202012Validator(schema)
    assert all(check.is_valid(value) for value in good)
    assert not any(check.is_valid(value) for value in bad)


@pytest.mark.parametrize(
    "hint", ["", "Any", "Image", "int | Image", "not a hint", "x" * 5000, "__import__('os')", "(" * 500]
)
def test_what_says_nothing(hint):
    assert schema_of(hint) is None


SHARPEN = signature("def sharpen(image: bytes, /, strength: float = 1.0, *more: int, mode: str, **rest: int) -> bytes")


def test_input_schema():
    schema = input_schema(SHARPEN)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == ["image", "strength", "more", "mode"]
    assert schema["required"] == ["image", "mode"]
    assert schema["additionalProperties"] == {"type": "integer"}
    assert input_schema(signature("def f()")) == {"type": "object", "properties": {}, "additionalProperties": False}
    assert input_schema(signature("def f(x: Image)"))["properties"] == {"x": {"description": "Image"}}


def test_output_schema():
    assert output_schema(signature("def f() -> int"))["properties"] == {"result": {"type": "integer"}}
    assert output_schema(signature("def f()")) is None
    assert output_schema(signature("def f() -> Image")) is None


@pytest.mark.parametrize(
    ("given", "args", "kwargs"),
    [
        ({"image": b"", "mode": "x"}, [b""], {"mode": "x"}),
        ({"image": b"", "strength": 2.0, "mode": "x"}, [b""], {"strength": 2.0, "mode": "x"}),
        ({"image": b"", "strength": 2.0, "more": [1, 2], "mode": "x"}, [b"", 2.0, 1, 2], {"mode": "x"}),
        ({"image": b"", "mode": "x", "z": 1}, [b""], {"mode": "x", "z": 1}),
        ({"image": b"", "more": [], "mode": "x"}, [b""], {"mode": "x"}),
    ],
)
def test_arguments(given, args, kwargs):
    assert arguments_of(SHARPEN, given) == (args, kwargs)
    SHARPEN.bind(args, kwargs)


def test_arguments_that_no_call_has():
    with pytest.raises(UsageError, match="'strength'"):
        arguments_of(SHARPEN, {"image": b"", "more": [1], "mode": "x"})
    with pytest.raises(UsageError, match="expected list"):
        arguments_of(SHARPEN, {"image": b"", "more": 1, "mode": "x"})
    two = signature("def f(a=1, b=2, /)")
    with pytest.raises(UsageError, match="'a' must be given"):
        arguments_of(two, {"b": 1})
    assert arguments_of(two, {"a": 1}) == ([1], {})
