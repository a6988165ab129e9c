// Call functions of an Osiris mesh by name, over HTTP. No dependencies: what Node.js 18 and browsers have.

import { deployment } from "./deploy.js";
import { NotFound, ProtocolError, UsageError } from "./errors.js";
import { Gateway } from "./gateway.js";
import { toJson } from "./values.js";

export {
  CheckFailed,
  Conflict,
  DeadlineExceeded,
  Denied,
  FunctionError,
  InternalError,
  LimitExceeded,
  NotFound,
  OsirisError,
  Overloaded,
  ProtocolError,
  Unavailable,
  UsageError,
  WorkerDied,
} from "./errors.js";

const REQUEST_MS = 30_000;
const DEPLOY_MS = 920_000;
const GRACE_MS = 5000;
const LONGEST_MS = 24 * 3_600_000;

/** Arguments by keyword, made with {@link kwargs}. */
class Keywords {
  /** @param {Record<string, unknown>} values */
  constructor(values) {
    this.values = values;
  }
}

/**
 * Mark the last argument of a call as arguments by keyword.
 * @param {Record<string, unknown>} values
 */
export function kwargs(values) {
  return new Keywords(values);
}

/**
 * @typedef {object} Options
 * @property {number} [timeoutMs]
 * @property {boolean} [idempotent]
 * @property {string} [version]
 * @property {string} [context]
 * @property {AbortSignal} [signal]
 */

/** Calls with fixed options; `mesh.options` makes one. */
export class Calls {
  /** @type {Gateway} */
  #gateway;
  /** @type {Options} */
  #options;

  /**
   * @param {Gateway} gateway
   * @param {Options} options
   */
  constructor(gateway, options) {
    const { timeoutMs, version } = options;
    if (timeoutMs !== undefined && !(timeoutMs > 0)) throw new UsageError(`a timeout of ${timeoutMs} ms leaves no time`);
    if (version !== undefined && /[@/]/.test(version)) {
      throw new UsageError(`${version} is not a version`, { fix: "for example 1.4.2 or ^1.4" });
    }
    this.#gateway = gateway;
    this.#options = options;
  }

  /**
   * Return the same with other options; what is not given stays as it is.
   * @param {Options} options
   */
  options(options) {
    return new Calls(this.#gateway, { ...this.#options, ...options });
  }

  /**
   * Call a function and return its result.
   * @param {string} name
   * @param {unknown[]} args Every one goes to the function; the last may be made with {@link kwargs}.
   * @returns {Promise<unknown>}
   */
  async call(name, ...args) {
    return (await this.#call(name, args)).value;
  }

  /**
   * Do the same as {@link call}.
   * @param {string} name
   * @param {unknown[]} args
   */
  callFunction(name, ...args) {
    return this.call(name, ...args);
  }

  /**
   * Call a function and return its result with what is known of the call.
   * @param {string} name
   * @param {unknown[]} args
   */
  async detailed(name, ...args) {
    const { value, headers } = await this.#call(name, args);
    return {
      result: value,
      node: headers.get("Osiris-Node") ?? "",
      version: headers.get("Osiris-Version") ?? "",
      warm: headers.get("Osiris-Warm") === "true",
      elapsedUs: Number(headers.get("Osiris-Elapsed-Us") ?? 0),
    };
  }

  /**
   * @param {string} name
   * @param {unknown[]} args
   */
  #call(name, args) {
    const { timeoutMs, idempotent, context, signal } = this.#options;
    const last = args.at(-1);
    const keywords = last instanceof Keywords ? last.values : {};
    const positional = last instanceof Keywords ? args.slice(0, -1) : args;
    /** @type {Record<string, string>} */
    const headers = { "Content-Type": "application/json" };
    if (timeoutMs !== undefined) headers["Osiris-Timeout-Ms"] = String(Math.max(1, Math.floor(timeoutMs)));
    if (idempotent !== undefined) headers["Osiris-Idempotent"] = String(idempotent);
    if (context) headers["Osiris-Context"] = context;
    return this.#gateway.ask({
      verb: "POST",
      path: `/v1/call/${encoded(this.#full(name))}`,
      headers,
      body: JSON.stringify({ args: toJson(positional), kwargs: toJson(keywords) }),
      safe: idempotent ?? false,
      // Without a limit of the caller's the function's own holds, which the controller keeps.
      timeoutMs: timeoutMs ?? LONGEST_MS + GRACE_MS,
      signal,
    });
  }

  /**
   * Call a function once for each item and yield the results in the items' order.
   * @param {string} name
   * @param {Iterable<unknown> | AsyncIterable<unknown>} items
   * @param {{ concurrency?: number }} [options]
   * @returns {AsyncGenerator<unknown, void, undefined>}
   */
  async *map(name, items, { concurrency = 16 } = {}) {
    if (!(concurrency >= 1)) throw new UsageError(`a concurrency of ${concurrency} makes no calls`);
    const stop = new AbortController();
    const outer = this.#options.signal;
    const pass = () => stop.abort(outer?.reason);
    if (outer?.aborted) pass();
    outer?.addEventListener("abort", pass);
    const calls = this.options({ signal: stop.signal });
    /** @type {Promise<unknown>[]} */
    const window = [];
    try {
      for await (const item of items) {
        const result = calls.call(name, item);
        // Its turn to be awaited comes later.
        result.catch(() => {});
        window.push(result);
        if (window.length >= concurrency) yield await window.shift();
      }
      while (window.length > 0) yield await window.shift();
    } finally {
      outer?.removeEventListener("abort", pass);
      if (window.length > 0) stop.abort();
    }
  }

  /**
   * Return a function of the mesh as a JavaScript function.
   * @param {string} name
   */
  async function(name) {
    const resolved = await this.resolve(name);
    /** @type {(...args: unknown[]) => Promise<unknown>} */
    const remote = (...args) => this.call(name, ...args);
    Object.defineProperty(remote, "name", { value: resolved.name.split("/").at(-1) });
    return Object.assign(remote, { signature: resolved.signature.text, description: resolved.description });
  }

  /**
   * Return which version a name means, and its signature.
   * @param {string} name
   * @returns {Promise<{ name: string, version: string, digest: string, signature: { text: string, parameters: unknown[],
   *   returns: string }, description: string, timeoutMs: number, idempotent: boolean, source: string, age: number,
   *   stale: boolean, deprecated: string | null, requirements: Record<string, unknown> | null, versions: string[],
   *   providers: Record<string, unknown>[], ttlMs: number }>}
   */
  async resolve(name) {
    const found = await this.get(`/v1/resolve/${encoded(this.#full(name))}`);
    const { version, digest, signature, description, timeout_ms: timeoutMs, idempotent } = /** @type {any} */ (found);
    if (typeof signature?.text !== "string") throw new ProtocolError("a name was resolved to something else");
    const { source = "local", age = 0, stale = false, deprecated = null, requirements = null } = /** @type {any} */ (found);
    const { versions = [], providers = [], ttl_ms: ttlMs = 300_000 } = /** @type {any} */ (found);
    const own = { name: String(found["name"]), version, digest, signature, description, timeoutMs, idempotent };
    return { ...own, source, age, stale, deprecated, requirements, versions, providers, ttlMs };
  }

  /**
   * Ask for something below /v1.
   * @param {string} path
   * @returns {Promise<Record<string, unknown>>}
   */
  async get(path) {
    const { timeoutMs = REQUEST_MS, signal } = this.#options;
    const { value } = await this.#gateway.ask({ verb: "GET", path, safe: true, timeoutMs, signal });
    if (typeof value !== "object" || value === null) throw new ProtocolError(`${path} was answered with no map`);
    return /** @type {Record<string, unknown>} */ (value);
  }

  /** @param {string} name */
  #full(name) {
    if (typeof name !== "string" || name === "") throw new UsageError("a call names no function");
    const { version } = this.#options;
    if (version === undefined || version === "") return name;
    if (name.includes("@")) throw new UsageError(`${name} and the option version both name a version`);
    return `${name}@${version}`;
  }
}

/** A mesh, through its gateways. */
export class Mesh extends Calls {
  /** @type {Gateway} */
  #gateway;

  /**
   * @param {{ url: string | readonly string[], token: string, fetch?: typeof fetch } & Options} where
   */
  constructor({ url, token, fetch: fetcher = globalThis.fetch, ...options }) {
    const gateway = new Gateway(url, token, fetcher);
    super(gateway, options);
    this.#gateway = gateway;
  }

  /** Return all functions: name, versions, active, instances, description. */
  async list() {
    return (await this.get("/v1/functions"))["functions"];
  }

  /**
   * Return all that is known of one function.
   * @param {string} name
   */
  describe(name) {
    return this.get(`/v1/functions/${encodeURIComponent(name)}`);
  }

  /**
   * Deploy the functions of a source; the gateway builds, tests and publishes them.
   * @param {string | Record<string, string | ArrayBuffer | ArrayBufferView>} source The text of a Python file, or the
   *   files of a folder by path.
   * @param {Record<string, unknown>} [options]
   * @returns {Promise<Record<string, unknown>[]>}
   */
  async deploy(source, options = {}) {
    const { functions } = await this.#change("POST", "/v1/functions", deployment(source, options), {
      timeoutMs: DEPLOY_MS,
      ...options,
    });
    if (!Array.isArray(functions) || functions.length === 0) throw new ProtocolError("a source was deployed as nothing");
    return functions;
  }

  /**
   * Give a function that is there new code.
   * @param {string} name
   * @param {string | Record<string, string | ArrayBuffer | ArrayBufferView>} source
   * @param {Record<string, unknown>} [options]
   */
  async update(name, source, options = {}) {
    const { name: full } = await this.describe(name);
    const own = String(full).split("/").at(-1);
    const named = { ...options, name: full };
    if (options["function"] === undefined) {
      // In a file with several functions, the one of that name is meant.
      try {
        return (await this.deploy(source, { ...named, function: own }))[0];
      } catch (error) {
        if (!(error instanceof NotFound)) throw error;
      }
    }
    return (await this.deploy(source, named))[0];
  }

  /**
   * Remove a function, or one version of it that is not active.
   * @param {string} name
   * @param {{ version?: string, signal?: AbortSignal }} [options]
   * @returns {Promise<void>}
   */
  async remove(name, { version, signal } = {}) {
    const query = version === undefined ? "" : `?${new URLSearchParams({ version })}`;
    await this.#change("DELETE", `/v1/functions/${encodeURIComponent(name)}${query}`, "", { signal });
  }

  /**
   * Make an earlier version the active one, and return which it is.
   * @param {string} name
   * @param {{ to?: string, signal?: AbortSignal }} [options]
   * @returns {Promise<string>}
   */
  async rollback(name, { to, signal } = {}) {
    const body = JSON.stringify(to === undefined ? {} : { to });
    await this.#change("POST", `/v1/functions/${encodeURIComponent(name)}/rollback`, body, { signal });
    return String((await this.describe(name))["active"]);
  }

  /**
   * @param {string} verb
   * @param {string} path
   * @param {string} body
   * @param {{ timeoutMs?: number | undefined, signal?: AbortSignal | undefined }} options
   * @returns {Promise<Record<string, unknown>>}
   */
  async #change(verb, path, body, { timeoutMs = REQUEST_MS, signal }) {
    /** @type {Record<string, string>} */
    const headers = body === "" ? {} : { "Content-Type": "application/json" };
    const asked = { verb, path, headers, safe: false, timeoutMs, signal };
    const { value } = await this.#gateway.ask(body === "" ? asked : { ...asked, body });
    if (typeof value !== "object" || value === null) throw new ProtocolError(`${path} was answered with no map`);
    return /** @type {Record<string, unknown>} */ (value);
  }

  /** Return how the mesh stands. */
  status() {
    return this.get("/v1/status");
  }

  /**
   * Yield what functions printed on the node that answers.
   * @param {string} [name] One function, or all.
   * @param {{ tail?: number, sinceMs?: number, follow?: boolean, signal?: AbortSignal }} [options]
   * @returns {AsyncGenerator<Record<string, unknown>, void, undefined>}
   */
  async *logs(name = "", { tail = 100, sinceMs = 0, follow = false, signal } = {}) {
    const where = name === "" ? "/v1/logs" : `/v1/functions/${encodeURIComponent(name)}/logs`;
    if (!follow) {
      const { lines } = await this.get(`${where}?${new URLSearchParams({ tail: `${tail}`, since_ms: `${sinceMs}` })}`);
      yield* /** @type {Record<string, unknown>[]} */ (lines);
      return;
    }
    // After a break, lines of the last millisecond come again and are passed over.
    let seen = /** @type {string[]} */ ([]);
    let again = /** @type {string[]} */ ([]);
    const path = () => {
      again = [...seen];
      return `${where}?${new URLSearchParams({ tail: `${tail}`, since_ms: `${sinceMs}`, follow: "true" })}`;
    };
    for await (const value of this.#gateway.follow(path, signal)) {
      const line = /** @type {Record<string, unknown>} */ (value);
      const text = JSON.stringify(line);
      const at = again.indexOf(text);
      if (at >= 0) {
        again.splice(at, 1);
        continue;
      }
      const time = Number(line["time_ms"]);
      if (time > sinceMs) {
        sinceMs = time;
        seen = [];
      }
      if (time === sinceMs) seen = [...seen.slice(-999), text];
      tail = 10_000;
      yield line;
    }
  }

  /**
   * Yield events of the mesh as they happen; a stream that breaks goes on where it was.
   * @param {{ names?: readonly string[], after?: number, signal?: AbortSignal }} [options]
   * @returns {AsyncGenerator<Record<string, unknown>, void, undefined>}
   */
  async *events({ names = ["*"], after, signal } = {}) {
    const path = () => {
      const query = new URLSearchParams({ names: names.join(",") });
      if (after !== undefined) query.set("after", `${after}`);
      return `/v1/events?${query}`;
    };
    for await (const value of this.#gateway.follow(path, signal)) {
      const event = /** @type {Record<string, unknown>} */ (value);
      if (typeof event["sequence"] === "number") after = event["sequence"];
      yield event;
    }
  }

  /** End what is under way; nothing more can be asked. */
  close() {
    this.#gateway.close();
  }
}

/**
 * A function's name in a path; its slashes stand as they are.
 * @param {string} name
 */
function encoded(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}
