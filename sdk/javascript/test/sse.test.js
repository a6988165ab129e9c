import assert from "node:assert/strict";
import { test } from "node:test";

import { ProtocolError } from "../src/errors.js";
import { EventReader } from "../src/sse.js";

const STREAM =
  "\ufeff: osiris\n\n" +
  "id: 1\nevent: node.lost\ndata: {}\n\n" +
  "data: a\r\ndata:b\r\n\r\n" +
  "id: 7\rdata: ä\r\r" +
  "event: nothing\n\n" +
  "data: last\n\n" +
  "data: cut";
const EVENTS = [
  { name: "node.lost", data: "{}", id: "1" },
  { name: "message", data: "a\nb", id: "1" },
  { name: "message", data: "ä", id: "7" },
  { name: "message", data: "last", id: "7" },
];

test("events are the same however they are cut", () => {
  const bytes = new TextEncoder().encode(STREAM);
  for (const size of [1, 2, 3, 7, 16, bytes.length]) {
    const reader = new EventReader();
    const events = [];
    for (let start = 0; start < bytes.length; start += size) events.push(...reader.feed(bytes.subarray(start, start + size)));
    assert.deepEqual(events, EVENTS, `in pieces of ${size}`);
  }
});

test("an event has a bound, and is UTF-8", () => {
  const encoder = new TextEncoder();
  assert.throws(() => new EventReader().feed(encoder.encode("x".repeat(5 << 20))), ProtocolError);
  const reader = new EventReader();
  assert.throws(() => {
    for (let count = 0; count < 60; count += 1) reader.feed(encoder.encode(`data: ${"x".repeat(100_000)}\n`));
  }, ProtocolError);
  assert.throws(() => new EventReader().feed(Uint8Array.of(0xff, 0x0a)), ProtocolError);
});
