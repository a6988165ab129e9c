"""Names of tools and back: every function has one, no two the same, and each is read in one way."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import NotFound
from osiris_mesh.function.name import FunctionName
from osiris_mesh.gateway.mcp.names import MAX_NAME, function_name, tool_name

PART = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.[A-Za-z0-9]){0,20}", fullmatch=True)
VENDOR = st.from_regex(
    r"[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?){1,3}", fullmatch=True
)
NAME = st.builds("/".join, st.tuples(PART, PART) | st.tuples(VENDOR, PART, PART))


@settings(max_examples=400, deadline=None)
@given(NAME)
def test_there_and_back(name):
    name = str(FunctionName.parse(name))
    tool = tool_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", tool)
    assert function_name(tool, [name]) == name


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab1_-./dux"), max_size=20))
def test_any_text_is_one_tool_or_none(text):
    try:
        name = function_name(text)
    except NotFound:
        return
    assert tool_name(name) == text


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("default/add_numbers", "add_numbers"),
        ("image-processing/sharpen", "image-processing__sharpen"),
        ("acme.com/image/sharpen", "acme--dcom__image__sharpen"),
        ("a/b__c", "a__b--u_c"),
        ("a_/b", "a--u__b"),
        ("a/b--c", "a__b--h-c"),
        ("a/b-.c", "a__b--h--dc"),
    ],
)
def test_examples(name, tool):
    assert tool_name(name) == tool
    assert function_name(tool) == name


def test_a_long_name_is_found_in_the_list():
    name = f"{'v' * 60}.{'w' * 60}.com/{'n' * 60}/{'f' * 60}"
    tool = tool_name(name)
    assert len(tool) <= MAX_NAME
    assert function_name(tool, ["a/b", name]) == name
    with pytest.raises(NotFound):
        function_name(tool, ["a/b"])
    assert tool_name(name + "x"[:0]) != tool_name(name[:-1] + "g")


@pytest.mark.parametrize("tool", ["", "__a", "a__", "a--z", "a--dd--d", "default__add", "a" * 200, "a b", "é"])
def test_what_is_no_tool(tool):
    with pytest.raises(NotFound):
        function_name(tool)
