// Read by the type checker alone: what is declared can be used as documented, and nothing else.

import { FunctionError, kwargs, Mesh, OsirisError, Unavailable } from "../index.js";

export async function used(): Promise<void> {
  const mesh = new Mesh({ url: ["https://a", "https://b"], token: "osa1…", timeoutMs: 1000 });
  const sum: number = await mesh.callFunction<number>("add_numbers", 3, 5);
  const any: unknown = await mesh.call("a/b", new Uint8Array(2), [1, { a: null }], kwargs({ strength: 0.8 }));
  const { result, node }: { result: string; node: string } = await mesh
    .options({ idempotent: true, version: "^1.2", signal: new AbortController().signal })
    .detailed<string>("a/b");
  for await (const length of mesh.map<number>("text/length", ["a", "b"], { concurrency: 4 })) length.toFixed();
  const remote = await mesh.function<number>("a/b");
  const other: number = await remote(1, remote.signature);
  const [first] = await mesh.list();
  first?.versions.at(-1)?.toUpperCase();
  (await mesh.resolve("a/b")).signature.parameters[0]?.kind satisfies string | undefined;
  for await (const line of mesh.logs("a/b", { follow: true })) line.text.trim();
  for await (const event of mesh.events({ names: ["node.*"], after: 3 })) event.sequence.toFixed();
  const [made] = await mesh.deploy("def f(): pass", { name: "a/f", timeout: "5s", min: 1 });
  made?.tests?.passed.toFixed();
  (await mesh.update("a/f", { "f.py": "def f(): pass", "data.bin": new Uint8Array(2) })).changed satisfies boolean;
  (await mesh.rollback("a/f", { to: "1.0.0" })).trim();
  await mesh.remove("a/f", { version: "1.0.0" });
  try {
    mesh.close();
  } catch (error) {
    if (error instanceof FunctionError) error.traceback.trim();
    if (error instanceof Unavailable && error.maybe) throw error;
    if (error instanceof OsirisError) error.details["limit"];
  }
  // @ts-expect-error - a token is needed
  new Mesh({ url: "https://a" });
  // @ts-expect-error - a function can't be sent
  await mesh.call("a/b", () => 1);
  // @ts-expect-error - a deployment has no such option
  await mesh.deploy("def f(): pass", { colour: "red" });
  // @ts-expect-error - times are milliseconds
  mesh.options({ timeout: 5 });
  void [sum, any, result, node, other];
}
