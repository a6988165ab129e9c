// The SDK against a real controller: tests/javascript/test_node.py starts one and says where it is.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";

import { CheckFailed, Conflict, DeadlineExceeded, Denied, FunctionError, kwargs, Mesh, NotFound, Unavailable, UsageError } from "../src/index.js";

const { OSIRIS_TEST_URL: url = "", OSIRIS_TEST_TOKEN: token = "", OSIRIS_TEST_VIEWER: viewer = "" } = process.env;
const options = { skip: url === "" ? "no controller was started" : false, timeout: 60_000 };

/** Return an address nobody listens at. */
async function nobody() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return `http://127.0.0.1:${port}`;
}

test("against a controller", options, async (t) => {
  const mesh = new Mesh({ url, token });
  const gone = await nobody();

  await t.test("calls", async () => {
    assert.equal(await mesh.callFunction("web/add", 3, 5), 8);
    assert.equal(await mesh.call("web/add", 3, kwargs({ b: 4 })), 7);
    assert.equal(await mesh.options({ version: "^1.0" }).call("web/add", 3), 4);
    const value = { a: [1, 2.5, null, true, Uint8Array.of(0, 255), "ä"], b: {}, c: -Infinity };
    assert.deepEqual(await mesh.call("web/echo", value), value);
    const large = crypto.getRandomValues(new Uint8Array(60_000));
    assert.deepEqual(await mesh.call("web/echo", large), large);
    const { result, version, node, elapsedUs } = await mesh.detailed("web/add", 1, 1);
    assert.deepEqual([result, version], [2, "1.0.0"]);
    assert.ok(node !== "" && elapsedUs > 0);
  });

  await t.test("errors", async () => {
    await assert.rejects(mesh.call("web/add"), (error) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.what, /missing 1 required positional argument: 'a'/);
      return true;
    });
    await assert.rejects(mesh.call("web/add", "x"), /expected int, got str/);
    await assert.rejects(mesh.call("web/fail", "because"), (error) => {
      assert.ok(error instanceof FunctionError);
      assert.deepEqual([error.type, error.remoteMessage], ["ValueError", "because"]);
      assert.match(error.traceback, /raise ValueError\(text\)/);
      return true;
    });
    await assert.rejects(mesh.call("web/none"), NotFound);
    await assert.rejects(mesh.options({ timeoutMs: 150 }).call("web/slow", 5), DeadlineExceeded);
    await assert.rejects(new Mesh({ url, token: `osa1${"A".repeat(43)}` }).list(), Denied);
    await assert.rejects(new Mesh({ url, token: viewer }).call("web/add", 1), Denied);
    await assert.rejects(new Mesh({ url: gone, token }).list(), (error) => {
      assert.ok(error instanceof Unavailable && !error.maybe);
      return true;
    });
  });

  await t.test("several addresses", async () => {
    for (let count = 0; count < 4; count += 1) {
      assert.equal(await new Mesh({ url: [gone, url], token }).call("web/add", 1), 2);
    }
  });

  await t.test("map, list, describe, resolve, function, status", async () => {
    const results = [];
    for await (const result of mesh.map("web/add", Array.from({ length: 30 }, (_, at) => at))) results.push(result);
    assert.deepEqual(results, Array.from({ length: 30 }, (_, at) => at + 1));
    assert.ok((await mesh.list()).some(({ name }) => name === "web/add"));
    assert.equal((await mesh.describe("web/add")).active, "1.0.0");
    const resolved = await mesh.resolve("web/add");
    assert.equal(resolved.signature.parameters[0].name, "a");
    const add = await mesh.function("web/add");
    assert.equal(add.name, "add");
    assert.equal(add.description, "Add two numbers.");
    assert.match(add.signature, /^def add\(a: int/);
    assert.equal(await add(20, 22), 42);
    assert.equal((await mesh.status()).state, "ready");
  });

  await t.test("deploy, update, rollback, remove", async () => {
    const step = (value) => `def step() -> int:\n    return ${value}\n`;
    const [first] = await mesh.deploy(step(1), { name: "js/step", timeout: "2s", filename: "step.py" });
    assert.deepEqual([first.name, first.version, first.changed, first.tests.ok], ["js/step", "1.0.0", true, true]);
    assert.equal(await mesh.call("js/step"), 1);
    assert.equal((await mesh.describe("js/step")).limits.timeout_ms, 2000);
    assert.equal((await mesh.update("js/step", step(2), { filename: "step.py" })).version, "1.0.1");
    assert.equal(await mesh.call("js/step"), 2);
    assert.equal(await mesh.rollback("js/step"), "1.0.0");
    assert.equal(await mesh.call("js/step"), 1);
    await mesh.remove("js/step", { version: "1.0.1" });
    await mesh.remove("js/step");
    await assert.rejects(mesh.describe("js/step"), NotFound);
    await assert.rejects(mesh.update("js/step", step(3)), NotFound);

    const files = { "words.py": "from pathlib import Path\n\nimport lib.data\n\n\ndef size():\n    return lib.data.SIZE\n" };
    const [made] = await mesh.deploy({ ...files, "lib/data.py": new TextEncoder().encode("SIZE = 7\n") }, { folder: "js" });
    assert.deepEqual([made.name, await mesh.call("js/size")], ["js/size", 7]);
    await assert.rejects(mesh.deploy(step(1), { name: "js/size", version: "1.0.0" }), Conflict);

    const failing = "# /// script\n# [[tool.osiris.function.test]]\n# args = []\n# expect = 1\n# ///\n";
    await assert.rejects(mesh.deploy(failing + step(2), { name: "js/failing" }), (error) => {
      assert.ok(error instanceof CheckFailed);
      assert.equal(error.details.tests.failed, 1);
      return true;
    });
    await assert.rejects(mesh.deploy("def", { name: "js/broken" }), UsageError);
    await assert.rejects(mesh.deploy(step(1), { colour: "red" }), /no option colour/);
    await assert.rejects(mesh.deploy({}, {}), UsageError);
    await assert.rejects(new Mesh({ url, token: viewer }).deploy(step(1), { name: "js/no" }), Denied);
  });

  await t.test("logs, followed", async () => {
    await mesh.call("web/shout", "from a script");
    const control = new AbortController();
    const found = [];
    for await (const line of mesh.logs("web/shout", { tail: 5, follow: true, signal: control.signal })) {
      found.push(line.text);
      if (line.text === "from a script") await mesh.call("web/shout", "and again");
      if (line.text === "and again") break;
    }
    assert.ok(found.includes("from a script"));
    const plain = [];
    for await (const line of mesh.logs("web/shout")) plain.push(line.text);
    assert.ok(plain.includes("and again"));
    await assert.rejects(async () => {
      for await (const _ of mesh.logs("web/none", { follow: true })) void _;
    }, NotFound);
  });

  await t.test("events, with an end", async () => {
    const names = [];
    for await (const event of mesh.events({ names: ["deploy.*"], after: 0 })) {
      names.push(event.name);
      if (names.length === 3) break;
    }
    assert.deepEqual(names, ["deploy.done", "deploy.done", "deploy.done"]);
    const control = new AbortController();
    const waiting = (async () => {
      for await (const _ of mesh.events({ names: ["quorum.lost"], signal: control.signal })) void _;
    })();
    control.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
    mesh.close();
    await assert.rejects(mesh.list(), Unavailable);
  });
});
