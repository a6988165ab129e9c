"""Messages: what is read, what is refused with which code, for both eras; fuzzed."""

from __future__ import annotations

import json

import mcp_types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.gateway.mcp import protocol
from osiris_mesh.gateway.mcp.protocol import RpcError, read

ENVELOPE = {"_meta": {protocol.PROTOCOL_VERSION: "2026-07-28", protocol.CAPABILITIES: {}}}
HEADERS = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "add"}


def message(**parts):
    return json.dumps({"jsonrpc": "2.0", **parts}).encode()


def test_codes_are_the_specifications():
    assert mcp_types.HEADER_MISMATCH == protocol.HEADER_MISMATCH
    assert mcp_types.UNSUPPORTED_PROTOCOL_VERSION == protocol.UNSUPPORTED_VERSION
    assert mcp_types.PROTOCOL_VERSION_META_KEY == protocol.PROTOCOL_VERSION
    assert mcp_types.CLIENT_CAPABILITIES_META_KEY == protocol.CAPABILITIES
    assert mcp_types.SERVER_INFO_META_KEY == protocol.SERVER_INFO
    assert mcp_types.version.HANDSHAKE_PROTOCOL_VERSIONS == protocol.HANDSHAKE_VERSIONS
    assert mcp_types.version.MODERN_PROTOCOL_VERSIONS == protocol.MODERN_VERSIONS


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", protocol.PARSE_ERROR),
        (b"{", protocol.PARSE_ERROR),
        (b"[" * 5000, protocol.PARSE_ERROR),
        (b"[]", protocol.INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', protocol.INVALID_REQUEST),
        (b'{"id":1,"method":"ping"}', protocol.INVALID_REQUEST),
        (message(id=1), protocol.INVALID_REQUEST),
        (message(id=None, method="ping"), protocol.INVALID_REQUEST),
        (message(id=1.5, method="ping"), protocol.INVALID_REQUEST),
        (message(id=True, method="ping"), protocol.INVALID_REQUEST),
        (message(id="x" * 300, method="ping"), protocol.INVALID_REQUEST),
        (message(id=1, method=1), protocol.INVALID_REQUEST),
        (message(id=1, method="x" * 200), protocol.INVALID_REQUEST),
        (message(id=1, method="ping", params=[]), protocol.INVALID_PARAMS),
    ],
)
def test_refused(data, code):
    with pytest.raises(RpcError) as caught:
        read(data, {})
    assert caught.value.code == code
    assert protocol.status_of(caught.value) == 400


@pytest.mark.parametrize(
    ("headers", "params", "code"),
    [
        (HEADERS, {"name": "add"}, protocol.INVALID_PARAMS),
        ({}, {"name": "add", **ENVELOPE}, protocol.HEADER_MISMATCH),
        (HEADERS | {"Mcp-Method": "ping"}, {"name": "add", **ENVELOPE}, protocol.HEADER_MISMATCH),
        (HEADERS | {"Mcp-Name": "sub"}, {"name": "add", **ENVELOPE}, protocol.HEADER_MISMATCH),
        (
            HEADERS | {"MCP-Protocol-Version": "2099-01-01"},
            {"name": "add", "_meta": {**ENVELOPE["_meta"], protocol.PROTOCOL_VERSION: "2099-01-01"}},
            protocol.UNSUPPORTED_VERSION,
        ),
    ],
)
def test_envelope_and_headers(headers, params, code):
    with pytest.raises(RpcError) as caught:
        read(message(id=1, method="tools/call", params=params), headers)
    assert (caught.value.code, caught.value.request) == (code, 1)


def test_taken():
    modern = read(message(id="a", method="tools/call", params={"name": "add", **ENVELOPE}), HEADERS)
    assert (modern.modern, modern.name, modern.id) == (True, "add", "a")
    wrapped = HEADERS | {"Mcp-Name": "=?base64?YWRk?="}
    assert read(message(id=1, method="tools/call", params={"name": "add", **ENVELOPE}), wrapped).name == "add"
    assert read(message(id=1, method="ping"), {"MCP-Protocol-Version": "2025-11-25"}).modern is False
    assert read(message(id=1, method="tools/call", params={"name": "add", **ENVELOPE})).modern is True
    assert read(message(method="notifications/initialized"), {}).id is None
    assert read(message(id=1, result={}), {}) is None


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["jsonrpc", "id", "method", "params", "result"]),
        st.sampled_from(["2.0", 1, None, "ping", {}, {"_meta": 1}, {"_meta": {protocol.PROTOCOL_VERSION: 5}}, [], 1.5]),
    ).map(lambda each: json.dumps(each).encode()),
    st.none() | st.just({}) | st.just(HEADERS),
)
def test_any_bytes_are_read_or_refused(data, headers):
    try:
        read(data, headers)
    except RpcError as failure:
        wire = json.dumps(protocol.error(failure))
    else:
        wire = "{}"
    assert json.loads(wire).get("id") is None or b"id" in data
