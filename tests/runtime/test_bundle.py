from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import OsirisError, RemoteProtocolError, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.bundle import BUNDLE_LIMITS, Bundle, check_path
from osiris_mesh.runtime.metadata import MockTest

SPEC = FunctionSpec(
    name="maths/add",
    version="1.0.0",
    digest=b"",
    entry="add.py::add",
    runtime="python3.11",
    signature=[[["a", 1, False, "int"]], "int"],
)
LOCK = b"six==1.17.0 \\\n    --hash=sha256:" + b"0" * 64 + b"\n"
TEST = MockTest("", "test 1", (1, b"x"), {"b": 2, "a": {"z": 1, "y": 2}}, 3, "")


def test_a_bundle_is_its_hash() -> None:
    bundle = Bundle.make(SPEC, [("add.py", b"def add(a): ...")], lock=LOCK, tests=[TEST])
    assert bundle.digest == sha256(bundle.data).digest() == bundle.spec.digest
    assert bundle.spec.environment == sha256(LOCK).digest()
    assert Bundle.parse(bundle.data) == bundle
    assert (bundle.entry_file, bundle.function) == ("add.py", "add")


def test_order_does_not_matter() -> None:
    one = Bundle.make(SPEC, [("add.py", b"1"), ("b/c.py", b"2"), ("a.txt", b"3")], tests=[TEST])
    turned = replace(TEST, kwargs={"a": {"y": 2, "z": 1}, "b": 2})
    two = Bundle.make(SPEC, [("a.txt", b"3"), ("b/c.py", b"2"), ("add.py", b"1")], tests=[turned])
    assert one.data == two.data


def test_the_vector_of_the_protocol_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol" / "bundle.md").read_text("utf-8").partition("## Vector")[2]
    written = bytes.fromhex("".join(re.findall(r"^    ([0-9a-f]+)$", text, re.MULTILINE)))
    bundle = Bundle.make(SPEC, [("add.py", b"def add(a: int) -> int:\n    return a + 1\n")])
    assert bundle.data == written
    assert f"{len(written)} bytes, digest `{bundle.digest.hex()}`" in text


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up.py",
        "a/../../b",
        "a//b",
        "a/./b",
        "a/",
        "a\\b",
        "C:/x",
        "a\nb",
        "a\0b",
        "\u202ea.py",
        "a" * 256,
        "/".join(["a"] * 600),
        7,
        None,
        b"a",
    ],
)
def test_paths_that_lead_elsewhere(path: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        check_path(path)


@pytest.mark.parametrize("path", ["a.py", "a/b/c.txt", ".hidden", "..a", "a..b", "naïve.txt", "a b.py"])
def test_paths_that_are_fine(path: str) -> None:
    assert check_path(path) == path


def document(**parts: Any) -> dict[str, Any]:
    whole = unpack(Bundle.make(SPEC, [("add.py", b"x")]).data, BUNDLE_LIMITS)
    return whole | parts


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        document(extra=1),
        document(files=[]),
        document(files=[["add.py"]]),
        document(files=[["add.py", "text"]]),
        document(files=[["b.py", b""], ["add.py", b""]]),
        document(files=[["add.py", b""], ["add.py", b""]]),
        document(files=[["add.py", b""], ["add.py/x", b""]]),
        document(files=[["../add.py", b""]]),
        document(files=[["other.py", b""]]),
        document(files=[[f"{number:05}", b""] for number in range(5000)]),
        document(lock="x"),
        document(lock=LOCK),
        document(tests={}),
        document(tests=[["name"]]),
        document(tests=[["name", [], {}, 1, None]]),
        document(manifest={"format": 2, "spec": SPEC.to_wire(), "roots": [""]}),
        document(manifest={"format": True, "spec": SPEC.to_wire(), "roots": [""]}),
        document(manifest={"format": 1, "spec": b"", "roots": [""]}),
        document(manifest={"format": 1, "spec": SPEC.to_wire(), "roots": []}),
        document(manifest={"format": 1, "spec": SPEC.to_wire(), "roots": ["../x"]}),
        document(manifest={"format": 1, "spec": replace(SPEC, digest=b"0" * 32).to_wire(), "roots": [""]}),
        document(manifest={"format": 1, "spec": replace(SPEC, environment=b"0" * 32).to_wire(), "roots": [""]}),
        document(manifest={"format": 1, "spec": replace(SPEC, entry="add.py").to_wire(), "roots": [""]}),
        document(manifest={"format": 1, "spec": replace(SPEC, entry="add.py::1").to_wire(), "roots": [""]}),
    ],
)
def test_what_is_no_bundle(value: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        Bundle.parse(pack(value))


def test_trailing_bytes_and_other_spellings_are_refused() -> None:
    data = Bundle.make(SPEC, [("add.py", b"x")]).data
    with pytest.raises(RemoteProtocolError):
        Bundle.parse(data + b"\0")
    with pytest.raises(RemoteProtocolError):
        Bundle.parse(b"\xde\x00\x04" + data[1:])


@pytest.mark.parametrize("change", [{"memory": 1}, {"timeout_ms": 0}, {"min_instances": 9}, {"name": "Add"}])
def test_a_specification_out_of_range(change: dict[str, Any]) -> None:
    manifest = {"format": 1, "spec": replace(SPEC, **change).to_wire(), "roots": [""]}
    with pytest.raises(OsirisError):
        Bundle.parse(pack(document(manifest=manifest)))


def test_too_large_is_said_when_it_is_made() -> None:
    with pytest.raises(UsageError, match="67108864"):
        Bundle.make(SPEC, [("add.py", bytes(BUNDLE_LIMITS.size))])


@settings(max_examples=150)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(OsirisError):
        Bundle.parse(data)


@settings(max_examples=100)
@given(st.data())
def test_one_changed_byte_is_another_bundle_or_none(data: st.DataObject) -> None:
    whole = bytearray(Bundle.make(SPEC, [("add.py", b"some code")], tests=[TEST]).data)
    digest = sha256(whole).digest()
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        bundle = Bundle.parse(bytes(whole))
    except OsirisError:
        return
    assert bundle.digest != digest


names = st.text("abc_-.é", min_size=1, max_size=6).filter(lambda text: text not in {".", ".."})


@settings(max_examples=60)
@given(st.dictionaries(names, st.binary(max_size=50), max_size=6))
def test_what_is_made_is_read_again(files: dict[str, bytes]) -> None:
    files["add.py"] = b"code"
    bundle = Bundle.make(SPEC, files.items())
    assert dict(Bundle.parse(bundle.data).files) == files
