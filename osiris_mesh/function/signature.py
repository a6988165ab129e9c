"""A function's signature as data: read from the syntax tree, carried in the ledger, bound by the caller.

Wire form: ``[[[name, kind, has_default, annotation text]…], returns text]``, ``kind`` being ``int`` of
``inspect.Parameter.kind`` (0 positional-only, 1 positional or keyword, 2 ``*args``, 3 keyword-only, 4 ``**kwargs``). A
default is only known to exist: its value stays with the code, where the function itself applies it.

:meth:`Signature.bind` answers as Python does, word for word, so that a call to a function far away fails like a call to
one in the same file; then it checks simple type hints (:mod:`osiris_mesh.function.hints`).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from osiris_mesh.codec import pack
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.function.hints import MAX_ANNOTATION, Check, check_of

__all__ = ["MAX_PARAMETERS", "Parameter", "Signature", "binding_of"]

MAX_PARAMETERS: Final = 128
_MAX_NAME: Final = 128
_MAX_NODES: Final = 256
_POSITIONAL_ONLY, _EITHER, _VAR_POSITIONAL, _KEYWORD_ONLY, _VAR_KEYWORD = range(5)
_KINDS: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
)
_KIND_NAMES: Final = ("positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        name: Its name.
        kind: 0 to 4, as ``int`` of ``inspect.Parameter.kind``.
        has_default: The function has a default for it.
        annotation: Text of its type hint; empty without one.
    """

    name: str
    kind: int
    has_default: bool = False
    annotation: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters and return annotation of one function.

    Args:
        parameters: In Python's order.
        returns: Text of the return annotation; empty without one.
        name: The function's own name, for the texts of errors; no part of the wire form.

    Raises:
        UsageError: An order no Python function could have, a name that is none or stands twice, or past a bound.
    """

    parameters: tuple[Parameter, ...]
    returns: str = ""
    name: str = field(default="function", compare=False)
    _plan: _Plan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_shape(self.parameters, self.returns)
        object.__setattr__(self, "_plan", _Plan(self.parameters))

    # --- forms -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_ast(cls, node: ast.FunctionDef | ast.AsyncFunctionDef, source: str = "") -> Signature:
        """Read a signature from the syntax tree alone.

        Args:
            node: The function's definition.
            source: The file's text; with it, annotations keep the author's own spelling.

        Raises:
            UsageError: More parameters, or longer annotations, than are carried.
        """
        arguments = node.args
        either = [(item, _POSITIONAL_ONLY) for item in arguments.posonlyargs]
        either += [(item, _EITHER) for item in arguments.args]
        first_default = len(either) - len(arguments.defaults)
        found = [
            Parameter(item.arg, kind, place >= first_default, _annotation(item.annotation, source))
            for place, (item, kind) in enumerate(either)
        ]
        if rest := arguments.vararg:
            found.append(Parameter(rest.arg, _VAR_POSITIONAL, annotation=_annotation(rest.annotation, source)))
        found += [
            Parameter(item.arg, _KEYWORD_ONLY, default is not None, _annotation(item.annotation, source))
            for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
        if rest := arguments.kwarg:
            found.append(Parameter(rest.arg, _VAR_KEYWORD, annotation=_annotation(rest.annotation, source)))
        return cls(tuple(found), _annotation(node.returns, source), node.name)

    @classmethod
    def from_wire(cls, wire: Any, name: str = "function") -> Signature:
        """Read and check the wire form.

        Args:
            wire: What :meth:`to_wire` gave.
            name: The function's own name, for the texts of errors; of a full name the last part counts.

        Raises:
            RemoteProtocolError: Not such a form, or not the signature of any Python function.
        """
        if not (isinstance(wire, (list, tuple)) and len(wire) == 2 and isinstance(wire[0], (list, tuple))):
            raise RemoteProtocolError("a signature is not a list of parameters and a return annotation")
        parameters: list[Parameter] = []
        for item in wire[0]:
            if not (
                isinstance(item, (list, tuple)) and len(item) == 4 and tuple(map(type, item)) == (str, int, bool, str)
            ):
                raise RemoteProtocolError("a parameter is not of the form [name, kind, has_default, annotation]")
            parameters.append(Parameter(*item))
        if not isinstance(wire[1], str):
            raise RemoteProtocolError("a return annotation is not a text")
        try:
            return cls(tuple(parameters), wire[1], name.rpartition("/")[2])
        except UsageError as error:
            raise RemoteProtocolError(error.what) from None

    def to_wire(self) -> list[Any]:
        """Return the wire form."""
        return [[[item.name, item.kind, item.has_default, item.annotation] for item in self.parameters], self.returns]

    def text(self) -> str:
        """Return it as Python would write it: ``def sharpen(image: bytes, strength: float = …) -> bytes``."""
        words: list[str] = []
        previous = -1
        for item in self.parameters:
            if previous == _POSITIONAL_ONLY != item.kind:
                words.append("/")
            if item.kind == _KEYWORD_ONLY and previous not in {_VAR_POSITIONAL, _KEYWORD_ONLY}:
                words.append("*")
            stars = {_VAR_POSITIONAL: "*", _VAR_KEYWORD: "**"}.get(item.kind, "")
            hint = f": {item.annotation}" if item.annotation else ""
            equals = " = " if item.annotation else "="
            words.append(f"{stars}{item.name}{hint}{equals + '…' if item.has_default else ''}")
            previous = item.kind
        if previous == _POSITIONAL_ONLY:
            words.append("/")
        returns = f" -> {self.returns}" if self.returns else ""
        return f"def {self.name}({', '.join(words)}){returns}"

    def to_json(self) -> dict[str, Any]:
        """Return the view for ``describe``: text, parameters{name, kind, required, type}, returns."""
        return {
            "text": self.text(),
            "parameters": [
                {
                    "name": item.name,
                    "kind": _KIND_NAMES[item.kind],
                    "required": not item.has_default and item.kind not in {_VAR_POSITIONAL, _VAR_KEYWORD},
                    "type": item.annotation,
                }
                for item in self.parameters
            ],
            "returns": self.returns,
        }

    def to_inspect(self) -> inspect.Signature:
        """Return it for ``__signature__``: annotations stay text, a default that exists shows as ``...``."""
        empty = inspect.Parameter.empty
        return inspect.Signature(
            [
                inspect.Parameter(
                    item.name,
                    _KINDS[item.kind],
                    default=... if item.has_default else empty,
                    annotation=item.annotation or empty,
                )
                for item in self.parameters
            ],
            return_annotation=self.returns or inspect.Signature.empty,
        )

    # --- binding ---------------------------------------------------------------------------------------------------

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Check that a call fits, and return its arguments as they are to be sent.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.

        Raises:
            TypeError: They do not fit the parameters (Python's own text), or one does not fit its type hint:
                ``sharpen() argument 'strength': expected float, got str``.
        """
        plan = self._plan
        count = len(args)
        # The two shapes nearly every call has: all positional, or keywords that are plainly right.
        if (
            count > plan.positional_count
            or (not plan.keyword_checks.keys() >= kwargs.keys())
            or (kwargs and not plan.taken[count].isdisjoint(kwargs))
            or not plan.missing[count].issubset(kwargs)
        ):
            self._bind_slowly(args, kwargs)
        for place, check in plan.positional_checks:
            if place >= count:
                break
            if not check.accepts(args[place]):
                raise self._mistyped(self.parameters[place].name, check, args[place])
        for name, value in kwargs.items():
            named = plan.keyword_checks.get(name, plan.rest_keyword)
            if named is not None and not named.accepts(value):
                raise self._mistyped(name, named, value)
        if count > plan.positional_count and plan.rest_positional is not None:
            for place in range(plan.positional_count, count):
                if not plan.rest_positional.accepts(args[place]):
                    rest = next(item.name for item in self.parameters if item.kind == _VAR_POSITIONAL)
                    named_place = f"*{rest}[{place - plan.positional_count}]"
                    raise self._mistyped(named_place, plan.rest_positional, args[place])
        return args, kwargs

    def _mistyped(self, name: str, check: Check, value: Any) -> TypeError:
        path, expected, found = check.fault(value)
        where = f"{name!r} at {path}" if path else repr(name)
        return TypeError(f"{self.name}() argument {where}: expected {expected}, got {found}")

    def _bind_slowly(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Bind in CPython's order of checks (``initialize_locals`` in ceval.c), raising its texts."""
        plan = self._plan
        positional = [item for item in self.parameters if item.kind <= _EITHER]
        filled = {item.name for item in positional[: len(args)]}
        for name in kwargs:
            if not isinstance(name, str):
                raise TypeError(f"{self.name}() keywords must be strings")
            if name not in plan.keyword_checks:
                if plan.has_rest_keyword:
                    continue
                hidden = [item.name for item in positional if item.kind == _POSITIONAL_ONLY and item.name in kwargs]
                if hidden:
                    raise TypeError(
                        f"{self.name}() got some positional-only arguments passed as keyword arguments: "
                        f"'{', '.join(hidden)}'"
                    )
                raise TypeError(f"{self.name}() got an unexpected keyword argument '{name}'")
            if name in filled:
                raise TypeError(f"{self.name}() got multiple values for argument '{name}'")
            filled.add(name)
        if len(args) > len(positional) and not plan.has_rest_positional:
            raise TypeError(self._too_many(positional, len(args), filled))
        for kinds, word in (((_POSITIONAL_ONLY, _EITHER), "positional"), ((_KEYWORD_ONLY,), "keyword-only")):
            missing = [
                repr(item.name)
                for item in self.parameters
                if item.kind in kinds and not item.has_default and item.name not in filled
            ]
            if missing:
                plural = "" if len(missing) == 1 else "s"
                raise TypeError(
                    f"{self.name}() missing {len(missing)} required {word} argument{plural}: {_and(missing)}"
                )

    def _too_many(self, positional: Sequence[Parameter], given: int, filled: set[str]) -> str:
        most = len(positional)
        least = sum(not item.has_default for item in positional)
        takes = f"from {least} to {most}" if least != most else str(most)
        plural = "" if most == 1 and least == most else "s"
        by_keyword = sum(item.kind == _KEYWORD_ONLY and item.name in filled for item in self.parameters)
        if by_keyword:
            given_text = (
                f"{given} positional argument{'' if given == 1 else 's'} "
                f"(and {by_keyword} keyword-only argument{'' if by_keyword == 1 else 's'}) were given"
            )
        else:
            given_text = f"{given} {'was' if given == 1 else 'were'} given"
        return f"{self.name}() takes {takes} positional argument{plural} but {given_text}"


def binding_of(wire: Any) -> bytes:
    """Return the 16 bytes by which caller and controller know that they mean the same signature, of its wire form."""
    return hashlib.sha256(pack(wire)).digest()[:16]


class _Plan:
    """What :meth:`Signature.bind` asks on every call, worked out once."""

    __slots__ = (
        "has_rest_keyword",
        "has_rest_positional",
        "keyword_checks",
        "missing",
        "positional_checks",
        "positional_count",
        "rest_keyword",
        "rest_positional",
        "taken",
    )

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        positional = [item for item in parameters if item.kind <= _EITHER]
        self.positional_count = len(positional)
        checks = [(place, check_of(item.annotation)) for place, item in enumerate(positional)]
        self.positional_checks = [(place, check) for place, check in checks if check is not None]
        self.keyword_checks: dict[str, Check | None] = {
            item.name: check_of(item.annotation) for item in parameters if item.kind in {_EITHER, _KEYWORD_ONLY}
        }
        rest = {item.kind: check_of(item.annotation) for item in parameters}
        self.has_rest_positional = _VAR_POSITIONAL in rest
        self.has_rest_keyword = _VAR_KEYWORD in rest
        self.rest_positional = rest.get(_VAR_POSITIONAL)
        self.rest_keyword = rest.get(_VAR_KEYWORD)
        # By the number of positional arguments given: names that may not come by keyword any more, names that must.
        required = [item for item in parameters if not item.has_default and item.kind in {0, 1, 3}]
        self.taken = [
            frozenset(item.name for item in positional[:count] if item.kind == _EITHER)
            for count in range(len(positional) + 1)
        ]
        self.missing = [
            frozenset(item.name for item in required if item not in positional[:count])
            for count in range(len(positional) + 1)
        ]


def _and(words: Sequence[str]) -> str:
    if len(words) <= 2:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}, and {words[-1]}"


def _annotation(node: ast.expr | None, source: str) -> str:
    if node is None:
        return ""
    for count, _ in enumerate(ast.walk(node)):
        if count >= _MAX_NODES:
            raise UsageError(f"a type hint in line {node.lineno} is too long", fix="give the type a name")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = " ".join(node.value.split())
    else:
        text = (source and ast.get_source_segment(source, node)) or ""
        if not text or "\n" in text:
            text = ast.unparse(node)
    if len(text) > MAX_ANNOTATION:
        raise UsageError(f"a type hint in line {node.lineno} is too long", fix="give the type a name")
    return text


def _check_shape(parameters: Sequence[Parameter], returns: str) -> None:
    if len(parameters) > MAX_PARAMETERS:
        raise UsageError(f"a function has {len(parameters)} parameters, more than {MAX_PARAMETERS}")
    if len(returns) > MAX_ANNOTATION:
        raise UsageError("a return annotation is too long")
    previous, default_seen = 0, False
    names: set[str] = set()
    for item in parameters:
        if not item.name.isidentifier() or len(item.name) > _MAX_NAME or item.name in names:
            raise UsageError(f"{item.name[:_MAX_NAME]!r} is not a parameter's name, or stands twice")
        names.add(item.name)
        if len(item.annotation) > MAX_ANNOTATION:
            raise UsageError(f"the type hint of {item.name!r} is too long")
        single = item.kind in {_VAR_POSITIONAL, _VAR_KEYWORD}
        if not 0 <= item.kind <= 4 or item.kind < previous or (single and (item.kind == previous or item.has_default)):
            raise UsageError(f"parameter {item.name!r} stands where no function has it")
        if item.kind <= _EITHER:
            if default_seen and not item.has_default:
                raise UsageError(f"parameter {item.name!r} without a default follows one with a default")
            default_seen = default_seen or item.has_default
        previous = item.kind
