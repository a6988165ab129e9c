"""A call to a function far away fails like a call to one in the same file."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.function.hints import check_of
from osiris_mesh.function.signature import MAX_PARAMETERS, Parameter, Signature, binding_of


def read(source: str) -> Signature:
    node = ast.parse(source).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    return Signature.from_ast(node, source)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("def f(): pass", "def f()"),
        (
            "def sharpen(image: bytes, strength: float = 0.5) -> bytes: pass",
            "def sharpen(image: bytes, strength: float = …) -> bytes",
        ),
        ("async def f(a, /, b, *, c=1): pass", "def f(a, /, b, *, c=…)"),
        ("def f(a, /): pass", "def f(a, /)"),
        ("def f(*a: int, k: str | None, **z: Any): pass", "def f(*a: int, k: str | None, **z: Any)"),
        ("def f(a: 'str | None'): pass", "def f(a: str | None)"),
        ("def f(a: dict[\n str,\n int]): pass", "def f(a: dict[str, int])"),
        ("def f(a=1, /, b=2): pass", "def f(a=…, /, b=…)"),
    ],
)
def test_text_and_wire_round_trip(source: str, text: str) -> None:
    signature = read(source)
    assert signature.text() == text
    assert signature.to_json()["text"] == text
    assert Signature.from_wire(unpack(pack(signature.to_wire())), f"default/{signature.name}") == signature
    again = read(f"{signature.text().replace('…', '...')}: pass")
    assert again == signature


def test_wire_form_is_frozen() -> None:
    assert read("def f(a, /, b: int, *c, d: str = '', **e) -> None: pass").to_wire() == [
        [["a", 0, False, ""], ["b", 1, False, "int"], ["c", 2, False, ""], ["d", 3, True, "str"], ["e", 4, False, ""]],
        "None",
    ]


def test_binding_is_frozen() -> None:
    signature = read("def sharpen(image: bytes, strength: float = 0.5) -> bytes: pass")
    assert pack(signature.to_wire()).hex() == (
        "929294a5696d61676501c2a5627974657394a8737472656e67746801c3a5666c6f6174a56279746573"
    )
    assert binding_of(signature.to_wire()).hex() == "12872067529cc39cb28b341abc982001"


def test_describe_says_what_is_required() -> None:
    view = read("def f(a: int, *rest, b=1): pass").to_json()
    assert [(item["name"], item["kind"], item["required"]) for item in view["parameters"]] == [
        ("a", "positional_or_keyword", True),
        ("rest", "var_positional", False),
        ("b", "keyword_only", False),
    ]


def test_shows_as_a_python_signature() -> None:
    assert str(read("def f(a: int, *, b='x') -> str: pass").to_inspect()) == "(a: 'int', *, b=Ellipsis) -> 'str'"


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        [[], "", 1],
        [[], None],
        [[["a", 1, False]], ""],
        [[["a", 1, 0, ""]], ""],
        [[["a", True, False, ""]], ""],
        [[["a", 5, False, ""]], ""],
        [[["a", -1, False, ""]], ""],
        [[["a b", 1, False, ""]], ""],
        [[["a", 1, False, ""], ["a", 1, False, ""]], ""],
        [[["a", 3, False, ""], ["b", 1, False, ""]], ""],
        [[["a", 1, True, ""], ["b", 1, False, ""]], ""],
        [[["a", 2, True, ""]], ""],
        [[["a", 4, False, ""], ["b", 4, False, ""]], ""],
        [[["a", 1, False, "x" * 2000]], ""],
        [[[f"a{number}", 1, False, ""] for number in range(MAX_PARAMETERS + 1)], ""],
    ],
)
def test_refuses_what_no_function_has(wire: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        Signature.from_wire(wire)


def test_refuses_a_hint_without_bound() -> None:
    with pytest.raises(UsageError, match="line 1"):
        read(f"def f(a: {'|'.join(['int'] * 500)}): pass")
    with pytest.raises(UsageError, match="line 1"):
        read(f"def f(a: '{'x' * 2000}'): pass")


# --- binding ----------------------------------------------------------------------------------------------------------


def none() -> None: ...
def one(a): ...
def two(a, b=1): ...
def three(a, b, c): ...
def only(a, /, b): ...
def hidden(a, b, /, **rest): ...
def keyword(a=1, *, k, m): ...
def keyword_default(a, *, k=1): ...
def rest(a, *more, k=1, **others): ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (none, (1,), {}),
        (none, (1, 2), {}),
        (none, (), {"x": 1}),
        (one, (), {}),
        (one, (1, 2), {}),
        (one, (1,), {"a": 2}),
        (one, (1, 2), {"x": 2}),
        (two, (), {}),
        (two, (1, 2, 3), {}),
        (two, (), {"b": 1}),
        (three, (), {}),
        (three, (1,), {}),
        (three, (1,), {"c": 1}),
        (only, (), {"a": 1, "b": 2}),
        (only, (), {"b": 2}),
        (only, (1,), {"b": 2, "z": 3}),
        (hidden, (), {"a": 1}),
        (hidden, (), {"a": 1, "b": 2}),
        (keyword, (), {}),
        (keyword, (1,), {"k": 1}),
        (keyword, (1, 2), {"k": 1}),
        (keyword, (1, 2, 3), {"k": 1, "m": 2}),
        (keyword_default, (1, 2), {"k": 1}),
        (keyword_default, (1, 2), {}),
        (rest, (), {}),
        (rest, (1,), {"a": 1}),
    ],
)
def test_speaks_as_python_does(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError) as python:
        function(*args, **kwargs)
    source = inspect.getsource(function)
    with pytest.raises(TypeError) as ours:
        read(source).bind(args, kwargs)
    assert str(ours.value) == str(python.value)


def test_positional_only_names_are_free_for_the_rest() -> None:
    def function(a=1, /, **rest): ...

    function(a=2)
    signature = read("def function(a=1, /, **rest): ...")
    assert signature.bind((), {"a": 2}) == ((), {"a": 2})
    assert read("def f(a: int, /, **rest: str): ...").bind((1,), {"a": "x"}) == ((1,), {"a": "x"})


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    kinds = sorted(draw(st.lists(st.integers(0, 4), max_size=6)))
    found: list[Parameter] = []
    default = False
    for place, kind in enumerate(kinds):
        if kind in {2, 4}:
            if any(item.kind == kind for item in found):
                continue
            found.append(Parameter("abcdef"[place], kind))
            continue
        has_default = draw(st.booleans())
        if kind <= 1:
            default = has_default = has_default or default
        found.append(Parameter("abcdef"[place], kind, has_default))
    return Signature(tuple(found))


@settings(max_examples=300, deadline=None)
@given(signatures(), st.integers(0, 7), st.sets(st.sampled_from("abcdefz")))
def test_binds_exactly_what_python_binds(signature: Signature, count: int, names: set[str]) -> None:
    # A keyword with the name of a positional-only parameter: inspect refuses what Python itself takes (see below).
    names = names - {item.name for item in signature.parameters if item.kind == 0}
    args, kwargs = tuple(range(count)), dict.fromkeys(names, 0)
    try:
        signature.to_inspect().bind(*args, **kwargs)
    except TypeError:
        fits = False
    else:
        fits = True
    if fits:
        assert signature.bind(args, kwargs) == (args, kwargs)
    else:
        with pytest.raises(TypeError):
            signature.bind(args, kwargs)


# --- hints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        ("int", [0, -1, 1 << 62], [True, 1.0, "1", None]),
        ("float", [0.5, 1], [True, "1", None]),
        ("str", ["", "ü"], [b"", 1, None]),
        ("bytes", [b"", bytearray(1), memoryview(b"x")], ["", 1]),
        ("bool", [True], [1, 0, None]),
        ("None", [None], [0, ""]),
        ("list", [[], [1, "x"], (1,)], ["", {}, None]),
        ("list[int]", [[], [1], (1, 2)], [[1, "x"], [True], "x"]),
        ("list[list[int]]", [[[1], []]], [[[1], ["x"]], [1]]),
        ("dict", [{}, {"a": 1}], [[], {1: 2}]),
        ("dict[str, int]", [{}, {"a": 1}], [{"a": "x"}, {1: 1}]),
        ("tuple[int, str]", [(1, "x"), [1, "x"]], [(1,), (1, 2), (1, "x", 3), "x"]),
        ("tuple[int, ...]", [(), (1, 2)], [(1, "x")]),
        ("Optional[int]", [1, None], ["x"]),
        ("typing.Optional[list[str]]", [None, ["a"]], [[1]]),
        ("Union[int, str]", [1, "x"], [None, 1.0]),
        ("int | str | None", [1, "x", None], [1.0]),
        ("'int | None'", [1, None], ["x"]),
        ("Literal['a', 1, None, -2]", ["a", 1, None, -2], ["b", True, 2, [1]]),
        ("Annotated[int, 'metres']", [1], ["x"]),
        ("list[Anything]", [[object()]], ["x"]),
        ("dict[str, Any]", [{"a": object()}], [1]),
    ],
)
def test_hints(hint: str, good: list[Any], bad: list[Any]) -> None:
    check = check_of(hint)
    assert check is not None
    for value in good:
        assert check.accepts(value), value
    for value in bad:
        assert not check.accepts(value), value
        _path, expected, found = check.fault(value)
        assert expected
        assert found


@pytest.mark.parametrize(
    "hint", ["", "Any", "Image", "np.ndarray", "int | Image", "not an expression(", "(" * 300, "-" * 900]
)
def test_unknown_hints_pass_everything(hint: str) -> None:
    assert check_of(hint) is None


def test_deep_hints_end_in_anything() -> None:
    check = check_of("list[" * 40 + "int" + "]" * 40)
    assert check is not None
    assert check.accepts([[]])


@pytest.mark.parametrize(
    ("source", "args", "kwargs", "text"),
    [
        (
            "def sharpen(image: bytes, strength: float = 1.0): ...",
            (b"",),
            {"strength": "much"},
            "sharpen() argument 'strength': expected float, got str",
        ),
        ("def f(a: int): ...", (None,), {}, "f() argument 'a': expected int, got None"),
        (
            "def f(rows: list[dict[str, int]]): ...",
            ([{"n": 1}, {"n": "x"}],),
            {},
            "f() argument 'rows' at [1]['n']: expected int, got str",
        ),
        (
            "def f(a: list[int] | None): ...",
            ([1, "x"],),
            {},
            "f() argument 'a' at [1]: expected int, got str",
        ),
        ("def f(a: Optional[int]): ...", ("x",), {}, "f() argument 'a': expected int | None, got str"),
        ("def f(a: tuple[int, int]): ...", ((1,),), {}, "f() argument 'a': expected tuple[int, int], got 1 items"),
        ("def f(a: Literal['x', 'y']): ...", ("z",), {}, "f() argument 'a': expected Literal['x', 'y'], got 'z'"),
        ("def f(*a: int): ...", (1, "x"), {}, "f() argument '*a[1]': expected int, got str"),
        ("def f(**a: int): ...", (), {"k": "x"}, "f() argument 'k': expected int, got str"),
    ],
)
def test_names_what_is_wrong(source: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        read(source).bind(args, kwargs)
    assert str(caught.value) == text


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_no_annotation_breaks_the_checker(text: str) -> None:
    check = check_of(text)
    if check is not None and not check.accepts(object()):
        check.fault(object())
