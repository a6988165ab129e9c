import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError, UsageError } from "../src/errors.js";
import { fromBase64, fromJson, toBase64, toJson } from "../src/values.js";

test("every kind of value goes there and back", () => {
  const bytes = Uint8Array.from({ length: 70_000 }, (_, at) => at % 256);
  const value = { a: [1, -2.5, null, true, "ä"], bytes, empty: {}, none: [], nan: NaN, up: Infinity, down: -Infinity };
  const wire = JSON.parse(JSON.stringify(toJson(value)));
  assert.deepEqual(fromJson(wire), value);
  assert.equal(typeof wire.bytes.$bytes, "string");
});

test("views and buffers are bytes, and only their part", () => {
  const whole = Uint8Array.of(1, 2, 3, 4);
  assert.deepEqual(toJson(whole.subarray(1, 3)), Object.assign(Object.create(null), {}) && { $bytes: toBase64(whole.subarray(1, 3)) });
  assert.deepEqual(toJson(whole.buffer), { $bytes: "AQIDBA==" });
  assert.deepEqual(toJson(new DataView(whole.buffer, 3)), { $bytes: "BA==" });
  assert.deepEqual(fromBase64(toBase64(new Uint8Array(0))), new Uint8Array(0));
});

test("undefined fields are left out, and what can't be sent is refused", () => {
  assert.deepEqual({ ...toJson({ a: undefined, b: 1 }) }, { b: 1 });
  assert.equal(toJson(5n), 5);
  const loop = [];
  loop.push(loop);
  for (const bad of [undefined, Symbol("x"), () => 1, 2n ** 60n, new Date(), new Map(), [undefined], loop]) {
    assert.throws(() => toJson(bad), UsageError);
  }
});

test("names of fields are never more than names", () => {
  const value = fromJson(JSON.parse('{"__proto__": {"polluted": true}, "b": 1}'));
  assert.equal({}.polluted, undefined);
  assert.deepEqual(Object.keys(value), ["__proto__", "b"]);
  assert.deepEqual(JSON.stringify(toJson(value)), '{"__proto__":{"polluted":true},"b":1}');
});

test("damaged bytes are an error, other dollars are not", () => {
  assert.throws(() => fromJson({ $bytes: "*" }), ProtocolError);
  assert.deepEqual(fromJson({ $bytes: 3 }), { $bytes: 3 });
  assert.deepEqual(fromJson({ $bytes: "AA==", more: 1 }), { $bytes: "AA==", more: 1 });
  assert.deepEqual(fromJson({ $float: "other" }), { $float: "other" });
});
