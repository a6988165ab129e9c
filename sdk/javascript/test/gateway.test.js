// The SDK without a controller: a fetch of the test's own answers.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "../src/index.js";
import { readProblem } from "../src/errors.js";

const { DeadlineExceeded, Denied, FunctionError, kwargs, Mesh, NotFound, Unavailable, UsageError } = sdk;
const TOKEN = "osa1secret";

/** Return a Mesh whose requests `answer` answers, and what was asked. */
function faked(answer, url = "http://127.0.0.1:7480") {
  const asked = [];
  const fetch = async (address, init) => {
    asked.push({ address, ...init, json: init.body === undefined ? undefined : JSON.parse(init.body) });
    return answer(address, init, asked.length);
  };
  return { mesh: new Mesh({ url, token: TOKEN, fetch }), asked };
}

const json = (value, status = 200, headers = {}) => new Response(JSON.stringify(value), { status, headers });

test("a call sends its arguments, and the bearer", async () => {
  const { mesh, asked } = faked(() => json({ $bytes: "AAE=" }));
  const answer = await mesh.callFunction("add_numbers", 3, new Uint8Array([255]), kwargs({ b: NaN, none: undefined }));
  assert.deepEqual(answer, Uint8Array.of(0, 1));
  const [one] = asked;
  assert.equal(one.address, "http://127.0.0.1:7480/v1/call/add_numbers");
  assert.equal(one.method, "POST");
  assert.equal(one.headers.Authorization, `Bearer ${TOKEN}`);
  assert.equal(one.redirect, "error");
  assert.deepEqual(one.json, { args: [3, { $bytes: "/w==" }], kwargs: { b: { $float: "nan" } } });
  assert.equal(one.headers["Osiris-Timeout-Ms"], undefined);
});

test("options stand apart from arguments", async () => {
  const { mesh, asked } = faked(() => json(1, 200, { "Osiris-Node": "n", "Osiris-Warm": "true", "Osiris-Elapsed-Us": "7" }));
  const calls = mesh.options({ timeoutMs: 1500.7 }).options({ idempotent: true, version: "^1.2", context: "pure" });
  const detailed = await calls.detailed("a.b/c/d e");
  assert.deepEqual(detailed, { result: 1, node: "n", version: "", warm: true, elapsedUs: 7 });
  assert.equal(asked[0].address, "http://127.0.0.1:7480/v1/call/a.b/c/d%20e%40%5E1.2");
  assert.equal(asked[0].headers["Osiris-Timeout-Ms"], "1500");
  assert.equal(asked[0].headers["Osiris-Idempotent"], "true");
  assert.equal(asked[0].headers["Osiris-Context"], "pure");
  assert.throws(() => mesh.options({ timeoutMs: 0 }), UsageError);
  assert.throws(() => mesh.options({ version: "a/b" }), UsageError);
  await assert.rejects(calls.call("a/b@1"), UsageError);
  await assert.rejects(mesh.call(""), UsageError);
});

test("errors are classes", async () => {
  const problem = {
    code: "function",
    detail: "it raised ValueError: no",
    fix: "look",
    details: { type: "ValueError", message: "no", traceback: "its own" },
  };
  const { mesh } = faked(() => json(problem, 422));
  await assert.rejects(mesh.call("a/b"), (error) => {
    assert.ok(error instanceof FunctionError && error instanceof sdk.OsirisError && error instanceof Error);
    assert.deepEqual([error.type, error.remoteMessage, error.traceback, error.code], ["ValueError", "no", "its own", "function"]);
    assert.equal(error.name, "FunctionError");
    assert.equal(error.message, "it raised ValueError: no; look");
    return true;
  });
  const kinds = { usage: UsageError, unauthenticated: Denied, not_found: NotFound, deadline: DeadlineExceeded, worker_died: sdk.WorkerDied };
  for (const [code, kind] of Object.entries(kinds)) assert.ok(readProblem(400, { code, detail: "x" }) instanceof kind, code);
  assert.ok(readProblem(400, { code: "new one", detail: "x" }) instanceof sdk.InternalError);
  assert.ok(readProblem(503, "<html>") instanceof Unavailable);
  assert.ok(readProblem(418, undefined) instanceof sdk.ProtocolError);
  assert.equal(readProblem(429, { code: "overloaded", detail: "x", details: { retry_after_ms: 9 } }).retryAfterMs, 9);
  const { mesh: page } = faked(() => new Response("<html>"));
  await assert.rejects(page.list(), sdk.ProtocolError);
});

test("addresses that are not safe to use are refused", () => {
  for (const url of ["http://mesh.example", "http://127.0.0.1.example", "ftp://x", "https://a:b@c", "https://c/path", "nothing", []]) {
    assert.throws(() => new Mesh({ url, token: TOKEN }), sdk.OsirisError, String(url));
  }
  for (const token of ["", "a b", "ä", undefined, "x".repeat(300)]) {
    assert.throws(() => new Mesh({ url: "https://mesh.example", token }), UsageError);
  }
  new Mesh({ url: ["https://mesh.example:7480/", "http://[::1]:1", "http://localhost"], token: TOKEN });
});

const refused = () => Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNREFUSED", message: "refused" } });
const broken = () => Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNRESET", message: "reset" } });

test("the next address steps in where nothing was sent, or a repeated call does no harm", async () => {
  const urls = ["https://a.example", "https://b.example"];
  for (const [fault, calls, works] of [
    [refused, (mesh) => mesh, true],
    [broken, (mesh) => mesh, false],
    [broken, (mesh) => mesh.options({ idempotent: true }), true],
  ]) {
    let failed = "";
    const { mesh, asked } = faked((address) => {
      failed ||= address;
      if (address === failed) throw fault();
      return json("there");
    }, urls);
    const answer = calls(mesh).call("a/b");
    if (works) {
      assert.equal(await answer, "there");
      // What failed rests: it is not asked again.
      assert.equal(await calls(mesh).call("a/b"), "there");
      assert.equal(asked.filter(({ address }) => address === failed).length, 1);
    } else {
      await assert.rejects(answer, (error) => error instanceof Unavailable && error.maybe);
      assert.equal(asked.length, 1);
    }
  }
});

test("what a registry says of a function is told", async () => {
  const signature = { text: "(a)", parameters: [], returns: "" };
  const own = { name: "a/b", version: "1.0.0", digest: "00", signature, description: "", timeout_ms: 5, idempotent: false };
  const providers = [{ id: "eu", endpoint: "https://eu.example.com", response_ms: 3 }];
  const outside = { source: "git", age: 1.5, stale: true, deprecated: "old", versions: ["1.0.0"], providers, ttl_ms: 2000 };
  const answers = [{ ...own, ...outside }, own];
  const { mesh } = faked(() => json(answers.shift()));
  const { ttl_ms: ttlMs, ...told } = outside;
  const { timeout_ms: timeoutMs, ...plain } = own;
  assert.deepEqual(await mesh.resolve("a/b"), { ...plain, timeoutMs, ...told, requirements: null, ttlMs });
  const local = await mesh.resolve("a/b");
  assert.deepEqual([local.source, local.stale, local.providers, local.ttlMs], ["local", false, [], 300_000]);
});

test("load spreads", async () => {
  const { mesh, asked } = faked(() => json(1), ["https://a.example", "https://b.example"]);
  for (let count = 0; count < 6; count += 1) await mesh.call("a/b");
  assert.equal(asked.filter(({ address }) => address.startsWith("https://a.")).length, 3);
});

const never = (_address, { signal }) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
  });

test("time, the caller's signal and close end what is under way", async () => {
  const { mesh } = faked(never);
  await assert.rejects(mesh.options({ timeoutMs: 20 }).call("a/b"), DeadlineExceeded);
  const control = new AbortController();
  const call = mesh.options({ signal: control.signal }).call("a/b");
  control.abort(new Error("enough"));
  await assert.rejects(call, /enough/);
  await assert.rejects(mesh.options({ signal: control.signal }).call("a/b"), /enough/);
  const last = mesh.call("a/b");
  mesh.close();
  await assert.rejects(last, /closed here/);
  await assert.rejects(mesh.call("a/b"), Unavailable);
});

test("map keeps the order and its bound, and stops when nobody listens", async () => {
  let most = 0;
  let now = 0;
  const { mesh, asked } = faked(async (_address, init) => {
    now += 1;
    most = Math.max(most, now);
    const [number] = JSON.parse(init.body).args;
    await new Promise((resolve) => setTimeout(resolve, (7 - number % 7) / 4));
    now -= 1;
    return number === 13 ? json({ code: "function", detail: "unlucky" }, 422) : json(number * 2);
  });
  const results = [];
  for await (const result of mesh.map("a/b", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { concurrency: 4 })) results.push(result);
  assert.deepEqual(results, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
  assert.equal(most, 4);
  await assert.rejects(async () => {
    for await (const _ of mesh.map("a/b", [12, 13, 14])) void _;
  }, FunctionError);
  const before = asked.length;
  for await (const _ of mesh.map("a/b", Array.from({ length: 1000 }, (_item, at) => at + 20), { concurrency: 3 })) break;
  assert.ok(asked.length - before <= 3);
  await assert.rejects(async () => {
    for await (const _ of mesh.map("a/b", [1], { concurrency: 0 })) void _;
  }, UsageError);
});

const stream = (...texts) =>
  new Response(
    new ReadableStream({
      start(controller) {
        for (const text of texts) controller.enqueue(new TextEncoder().encode(text));
        controller.close();
      },
    }),
  );

test("events go on where they were", async () => {
  const event = (sequence) => `id: ${sequence}\nevent: x\ndata: {"sequence": ${sequence}}\n\n`;
  const { mesh, asked } = faked((_address, _init, count) => {
    if (count === 1) return stream(": osiris\n\n", event(4), event(5));
    if (count === 2) throw refused();
    return stream(event(6));
  });
  const numbers = [];
  for await (const { sequence } of mesh.events({ names: ["node.*"] })) {
    numbers.push(sequence);
    if (sequence === 6) break;
  }
  assert.deepEqual(numbers, [4, 5, 6]);
  assert.equal(asked[0].address, "http://127.0.0.1:7480/v1/events?names=node.*");
  assert.equal(asked[2].address, "http://127.0.0.1:7480/v1/events?names=node.*&after=5");
});

test("lines that come again are passed over, and an error ends the stream", async () => {
  const line = (time, text) => `data: ${JSON.stringify({ time_ms: time, text })}\n\n`;
  const { mesh } = faked((_address, _init, count) =>
    count === 1
      ? stream(line(1, "a"), line(2, "b"), line(2, "b"))
      : stream(line(2, "b"), line(2, "b"), line(2, "c"), 'event: error\ndata: {"code": "not_found", "detail": "gone"}\n\n'),
  );
  const texts = [];
  await assert.rejects(async () => {
    for await (const { text } of mesh.logs("a/b", { follow: true })) texts.push(text);
  }, NotFound);
  assert.deepEqual(texts, ["a", "b", "b", "c"]);
});

test("a stream that never was is not tried again", async () => {
  const { mesh, asked } = faked(() => {
    throw refused();
  });
  await assert.rejects(async () => {
    for await (const _ of mesh.events()) void _;
  }, Unavailable);
  assert.equal(asked.length, 1);
});

test("what is exported is what is declared", async () => {
  const { readFile } = await import("node:fs/promises");
  const text = await readFile(new URL("../index.d.ts", import.meta.url), "utf8");
  const declared = [...text.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(Object.keys(sdk).sort(), declared.sort());
  const classes = { Mesh, Calls: Object.getPrototypeOf(Mesh) };
  for (const [name, kind] of Object.entries(classes)) {
    const body = text.slice(text.indexOf(`export class ${name} `));
    const methods = [...body.slice(0, body.indexOf("\n}")).matchAll(/^ {2}(?!protected|constructor)(\w+)[<(]/gm)].map(([, method]) => method);
    assert.deepEqual(Object.getOwnPropertyNames(kind.prototype).filter((each) => each !== "constructor").sort(), methods.sort(), name);
  }
});
