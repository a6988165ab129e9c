"""Specifications: one map, every field checked, one encoding."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.function.spec import FunctionSpec

SPEC = FunctionSpec(
    name="image-processing/sharpen",
    version="1.2.3",
    digest=b"d" * 32,
    entry="sharpen.py::sharpen",
    runtime="python3.11",
    signature=[[["image", 1, False, "bytes"]], "bytes"],
    environment=b"e" * 32,
)


def test_what_is_written_reads_back() -> None:
    assert FunctionSpec.from_wire(SPEC.to_wire()) == SPEC
    in_manifest = replace(SPEC, digest=b"", environment=b"", extra={"license": "MIT"})
    assert FunctionSpec.from_wire(in_manifest.to_wire()) == in_manifest


@settings(max_examples=60)
@given(
    st.integers(16 << 20, 1 << 40),
    st.integers(1, 86_400_000),
    st.integers(1, 1024),
    st.integers(0, 1024),
    st.booleans(),
    st.text(max_size=50),
)
def test_every_value_in_range_is_kept(
    memory: int, timeout_ms: int, concurrency: int, instances: int, network: bool, description: str
) -> None:
    spec = replace(
        SPEC,
        memory=memory,
        timeout_ms=timeout_ms,
        concurrency=concurrency,
        min_instances=instances,
        max_instances=max(1, instances),
        network=network,
        description=description,
    )
    assert FunctionSpec.from_wire(spec.to_wire()) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "sharpen"},
        {"name": "../../etc"},
        {"name": 5},
        {"version": "1.2"},
        {"digest": b"short"},
        {"digest": "d" * 32},
        {"environment": b"e" * 31},
        {"entry": None},
        {"signature": {}},
        {"memory": (16 << 20) - 1},
        {"memory": True},
        {"memory": 1.5},
        {"timeout_ms": 0},
        {"concurrency": 1025},
        {"min_instances": -1},
        {"min_instances": 5, "max_instances": 4},
        {"max_instances": 0},
        {"idle_ms": -1},
        {"network": 1},
        {"idempotent": None},
        {"extra": []},
    ],
)
def test_every_wrong_value_is_named(wrong: dict[str, Any]) -> None:
    wire = pack(asdict(SPEC) | wrong)
    with pytest.raises(UsageError):
        FunctionSpec.from_wire(wire)


def test_fields_are_all_there_in_their_order_and_encoding() -> None:
    value = unpack(SPEC.to_wire())
    assert list(value) == [item.name for item in fields(FunctionSpec)]
    reordered = dict(reversed(list(value.items())))
    fewer = {key: item for key, item in value.items() if key != "idle_ms"}
    for wrong in (pack(reordered), pack(fewer), pack(value | {"x": 1}), pack([]), b"", SPEC.to_wire() + b"\0"):
        with pytest.raises(RemoteProtocolError):
            FunctionSpec.from_wire(wrong)
    longer = SPEC.to_wire().replace(pack("python3.11"), b"\xd9\x0apython3.11")
    assert longer != SPEC.to_wire()
    with pytest.raises(RemoteProtocolError, match="shortest"):
        FunctionSpec.from_wire(longer)


def test_it_is_bounded() -> None:
    with pytest.raises(RemoteProtocolError):
        FunctionSpec.from_wire(replace(SPEC, description="x" * 70_000).to_wire())


@settings(max_examples=100)
@given(st.binary(max_size=100))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises((RemoteProtocolError, UsageError)):
        FunctionSpec.from_wire(data)
