"""Every regular expression of the packages takes time linear in its text: found by itself, pumped by its own grammar.

Patterns are found in the sources: the literals given to ``re.compile``, ``re.match`` and the like, and compiled ones
that modules hold. For each, texts are made from the parsed pattern: every repetition in it is repeated very often,
alone and together with the one after it, and an end is put on it that fits nowhere, which makes a matcher try again.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.gateway.http.route import Table
from osiris_mesh.gateway.http.routes import ROUTES

# The standard library's own parser of patterns; it has no public name.
sre: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")
ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "osiris_mesh", ROOT / "cli" / "osiris_mesh_cli")
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
SEARCHING = {"search", "sub", "subn", "split", "findall", "finditer"}
LENGTH = 20_000
SECONDS = 0.5
"""At this length a quadratic matcher takes several seconds, a linear one a millisecond."""


def modules() -> Iterator[tuple[str, Path]]:
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            yield ".".join(path.relative_to(folder.parent).with_suffix("").parts), path


def flags_of(call: ast.Call) -> int:
    given = [each for node in (*call.args[1:], *call.keywords) for each in ast.walk(node)]
    words = [each.attr for each in given if isinstance(each, ast.Attribute)]
    return sum(int(getattr(re, word)) for word in words if isinstance(getattr(re, word, None), re.RegexFlag))


def in_sources() -> Iterator[tuple[str, re.Pattern[Any], bool]]:
    """Name, pattern and whether it is searched for anywhere in a text."""
    for name, path in modules():
        source = path.read_text("utf-8")
        tree = ast.parse(source)
        searched = {
            node.func.value.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.attr in SEARCHING
        }
        held = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            module, function = node.func.value, node.func.attr
            if not (isinstance(module, ast.Name) and module.id == "re" and function in FUNCTIONS):
                continue
            try:
                text = ast.literal_eval(node.args[0])
            except ValueError:
                # Made at run time: module attributes and what tables make of templates are looked at below.
                continue
            variable = next((key for key, value in held.items() if value is node), "")
            searching = function in SEARCHING or variable in searched
            yield f"{name}:{node.lineno}", re.compile(text, flags_of(node)), searching


def in_modules() -> Iterator[tuple[str, re.Pattern[Any], bool]]:
    """Patterns modules hold, in tables as well; those are matched from the beginning."""
    for name, path in modules():
        if "re.compile(" not in path.read_text("utf-8"):
            continue
        for key, value in vars(importlib.import_module(name)).items():
            for at, pattern in enumerate(patterns_in(value, 3)):
                yield f"{name}.{key}[{at}]", pattern, False


def patterns_in(value: object, depth: int) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth and isinstance(value, (tuple, list, set, frozenset)):
        for each in value:
            yield from patterns_in(each, depth - 1)
    elif depth and isinstance(value, dict):
        yield from patterns_in([*value, *value.values()], depth - 1)


def of_routes() -> Iterator[tuple[str, re.Pattern[Any], bool]]:
    for pattern, _ in Table(ROUTES)._templates:
        yield f"route {pattern.pattern}", pattern, False


def all_patterns() -> list[tuple[str, re.Pattern[Any], bool]]:
    found: dict[tuple[Any, int, bool], tuple[str, re.Pattern[Any], bool]] = {}
    for name, pattern, searching in (*in_sources(), *in_modules(), *of_routes()):
        if (pattern.pattern, pattern.flags, True) not in found:
            found.setdefault((pattern.pattern, pattern.flags, searching), (name, pattern, searching))
    return list(found.values())


class Texts:
    """Texts a parsed pattern goes far into."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.repeats = 0
        self.pumped: frozenset[int] = frozenset()
        self.longest = 0
        self.write(tree)
        self.count, self.repeats = self.repeats, 0

    def text(self, pumped: frozenset[int]) -> str:
        """Return a text in which these repetitions are repeated as often as they may, up to the length."""
        self.pumped, self.repeats = pumped, 0
        return self.write(self.tree)

    def write(self, tree: Any) -> str:
        return "".join(self.one(op, value) for op, value in tree)

    def one(self, op: Any, value: Any) -> str:
        if op in {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}:
            low, high, inner = value
            number, self.repeats = self.repeats, self.repeats + 1
            piece = self.write(inner)
            often = min(int(high), max(LENGTH // max(len(piece), 1), 1)) if number in self.pumped else max(int(low), 0)
            return piece * often
        if op is sre.SUBPATTERN:
            return self.write(value[3])
        if op is sre.ATOMIC_GROUP:
            return self.write(value)
        if op is sre.BRANCH:
            # All are counted, so that a repetition's number does not depend on the branch.
            return next(iter([self.write(branch) for branch in value[1]]))
        if op is sre.LITERAL:
            return chr(value)
        if op is sre.NOT_LITERAL:
            return chr(value + 1)
        if op is sre.ANY:
            return "a"
        if op is sre.IN:
            return self.member(value)
        return ""

    @staticmethod
    def member(items: Any) -> str:
        if items[0][0] is sre.NEGATE:
            for letter in "a0-_. ":
                if not any(Texts.holds(item, letter) for item in items[1:]):
                    return letter
            return "\u00e9"
        for letter in "a0A-_. *!":
            if any(Texts.holds(item, letter) for item in items):
                return letter
        op, value = items[0]
        return chr(value if op is sre.LITERAL else value[0]) if op in {sre.LITERAL, sre.RANGE} else " "

    @staticmethod
    def holds(item: Any, letter: str) -> bool:
        op, value = item
        if op is sre.LITERAL:
            return bool(value == ord(letter))
        if op is sre.RANGE:
            return bool(value[0] <= ord(letter) <= value[1])
        if op is sre.CATEGORY:
            return {
                sre.CATEGORY_DIGIT: letter.isdigit(),
                sre.CATEGORY_SPACE: letter.isspace(),
                sre.CATEGORY_WORD: letter.isalnum() or letter == "_",
            }.get(value, False)
        return False


def hostile(pattern: re.Pattern[Any]) -> Iterator[str | bytes]:
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    texts = Texts(parser.parse(text, pattern.flags))
    numbers = range(texts.count)
    sets = [frozenset({number}) for number in numbers] + [frozenset({number, number + 1}) for number in numbers]
    made = {texts.text(each) for each in (*sets, frozenset(numbers))}
    made |= {letter * LENGTH for letter in "a0 -_./,:@*\t\n"}
    made |= {pair * (LENGTH // 2) for pair in ("a.", "a-", "0.", " ,", "//", "--")}
    for one in sorted(made):
        for end in ("\x00", "", "\n", "!"):
            whole = one[:LENGTH] + end
            yield whole if isinstance(pattern.pattern, str) else whole.encode("latin-1", "replace")


def slowest(pattern: re.Pattern[Any], *, searching: bool) -> tuple[float, Any]:
    worst: tuple[float, Any] = (0.0, "")
    for text in hostile(pattern):
        began = time.process_time()
        (pattern.search if searching else pattern.match)(text)
        pattern.fullmatch(text)
        took = time.process_time() - began
        if took > worst[0]:
            worst = took, text[:60]
        if took > SECONDS:
            break
    return worst


def test_a_slow_pattern_would_be_seen() -> None:
    assert slowest(re.compile(r"1\s*x?\s*\Z"), searching=False)[0] > SECONDS
    assert slowest(re.compile(r" +(?=--)"), searching=True)[0] > SECONDS


def test_the_packages_have_patterns() -> None:
    assert len(all_patterns()) > 40


@pytest.mark.parametrize("found", all_patterns(), ids=lambda found: found[0])
def test_every_pattern_is_linear(found: tuple[str, re.Pattern[Any], bool]) -> None:
    name, pattern, searching = found
    took, text = slowest(pattern, searching=searching)
    assert took <= SECONDS, f"{name} took {took:.1f} s over {text!r}…"
