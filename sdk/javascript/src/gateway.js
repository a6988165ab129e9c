// The way to the gateways of a mesh: one request, over the first address that answers.

import { Denied, DeadlineExceeded, ProtocolError, readProblem, Unavailable, UsageError } from "./errors.js";
import { EventReader } from "./sse.js";
import { fromJson } from "./values.js";

const LOCAL = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;
const REST_MS = [500, 30_000];
const FIRST_WAIT_MS = 100;
const MOST_WAIT_MS = 5000;
const TROUBLE_MS = 60_000;
const SILENCE_MS = 45_000;
// Of these it is known that nothing was sent.
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);

/**
 * @typedef {object} Ask
 * @property {string} verb
 * @property {string} path
 * @property {Record<string, string>} [headers]
 * @property {string} [body]
 * @property {boolean} safe It may be made again although it may have arrived.
 * @property {number} timeoutMs
 * @property {AbortSignal | undefined} [signal]
 */

/** Carries requests to the gateways of one mesh. */
export class Gateway {
  /** @type {{ origin: string, restsUntil: number, failures: number }[]} */
  #places;
  #token;
  #fetch;
  #closing = new AbortController();

  /**
   * @param {string | readonly string[]} url
   * @param {string} token
   * @param {typeof fetch} fetcher
   */
  constructor(url, token, fetcher) {
    const urls = typeof url === "string" ? [url] : [...url];
    if (urls.length === 0) throw new UsageError("no address was given", { fix: 'give url: "https://HOST:PORT"' });
    if (typeof token !== "string" || !/^[\x21-\x7e]{1,256}$/.test(token)) {
      throw new UsageError("a gateway asks for an API token", { fix: "one is made with: osiris-mesh apitoken create" });
    }
    this.#places = shuffled(urls.map((each) => ({ origin: originOf(each), restsUntil: 0, failures: 0 })));
    this.#token = token;
    this.#fetch = fetcher;
  }

  /**
   * Make one request and return the decoded JSON of the answer, with its headers.
   * @param {Ask} ask
   * @returns {Promise<{ value: unknown, headers: Headers }>}
   */
  async ask(ask) {
    const ends = Date.now() + ask.timeoutMs;
    /** @type {Unavailable | undefined} */
    let last;
    for (const place of this.#order()) {
      const left = ends - Date.now();
      if (left <= 0) break;
      try {
        return await this.#once(place, ask, left);
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        this.#failed(place);
        if (error.maybe && !ask.safe) throw error;
        last = error;
      }
    }
    throw last ?? new DeadlineExceeded(`no time was left for ${ask.verb} ${ask.path}`);
  }

  /**
   * @param {{ origin: string, restsUntil: number, failures: number }} place
   * @param {Ask} ask
   * @param {number} left
   */
  async #once(place, ask, left) {
    const { signal, done, timedOut } = this.#within(left, ask.signal);
    try {
      signal.throwIfAborted();
      const response = await this.#send(place, ask, signal);
      const text = await response.text();
      if (!response.ok) throw readProblem(response.status, decoded(text));
      const value = decoded(text);
      if (value === undefined) throw new ProtocolError("the answer is not JSON");
      place.failures = 0;
      return { value, headers: response.headers };
    } catch (error) {
      throw this.#translated(error, place, ask, timedOut());
    } finally {
      done();
    }
  }

  /**
   * @param {{ origin: string }} place
   * @param {{ verb: string, path: string, headers?: Record<string, string>, body?: string }} ask
   * @param {AbortSignal} signal
   */
  #send(place, ask, signal) {
    return this.#fetch.call(globalThis, `${place.origin}${ask.path}`, {
      method: ask.verb,
      headers: { Authorization: `Bearer ${this.#token}`, ...ask.headers },
      signal,
      redirect: "error",
      credentials: "omit",
      cache: "no-store",
      ...(ask.body === undefined ? {} : { body: ask.body }),
    });
  }

  /**
   * Read a stream of events for ever; when it breaks, go on elsewhere or again.
   * @param {() => string} path What to ask for now.
   * @param {AbortSignal | undefined} outer
   * @returns {AsyncGenerator<unknown, void, undefined>} What each event's data decodes to.
   */
  async *follow(path, outer) {
    let wait = FIRST_WAIT_MS;
    let heard = false;
    let since = 0;
    for (;;) {
      /** @type {unknown} */
      let lost;
      try {
        for await (const value of this.#stream(path(), outer)) {
          heard = true;
          wait = FIRST_WAIT_MS;
          since = 0;
          if (value !== undefined) yield value;
        }
        lost = new Unavailable("the stream was ended by the other end", { details: { maybe: false } });
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        lost = error;
      }
      since ||= Date.now();
      if (!heard || Date.now() - since > TROUBLE_MS || this.#closing.signal.aborted) throw lost;
      await pause(wait, outer, this.#closing.signal);
      wait = Math.min(wait * 2, MOST_WAIT_MS);
    }
  }

  /**
   * @param {string} path
   * @param {AbortSignal | undefined} outer
   * @returns {AsyncGenerator<unknown, void, undefined>} undefined for a heartbeat
   */
  async *#stream(path, outer) {
    /** @type {Unavailable | undefined} */
    let last;
    for (const place of this.#order()) {
      const quiet = this.#within(SILENCE_MS, outer);
      const ask = { verb: "GET", path, headers: { Accept: "text/event-stream" }, signal: outer };
      try {
        quiet.signal.throwIfAborted();
        const response = await this.#send(place, ask, quiet.signal);
        if (!response.ok) throw readProblem(response.status, decoded(await response.text()));
        if (response.body === null) throw new ProtocolError("a stream was answered without a body");
        const events = new EventReader();
        const reader = response.body.getReader();
        try {
          for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            quiet.again();
            yield undefined;
            for (const event of events.feed(value)) {
              const data = decoded(event.data);
              if (event.name === "error") throw readProblem(500, data);
              if (data === undefined) throw new ProtocolError("an event is not JSON");
              yield data;
            }
          }
        } finally {
          // Whoever stops listening stops the stream, too.
          await reader.cancel().catch(() => {});
        }
      } catch (error) {
        const translated = this.#translated(error, place, ask, quiet.timedOut());
        const unavailable = translated instanceof DeadlineExceeded ? silent(place) : translated;
        if (!(unavailable instanceof Unavailable)) throw unavailable;
        this.#failed(place);
        last = unavailable;
      } finally {
        quiet.done();
      }
    }
    throw last ?? new Unavailable("nobody answers", { details: { maybe: false } });
  }

  /** Let nothing more be asked, and end what is under way. */
  close() {
    this.#closing.abort();
  }

  /** Those that rest come last. */
  #order() {
    const now = Date.now();
    const up = this.#places.filter((place) => place.restsUntil <= now);
    const down = this.#places.filter((place) => place.restsUntil > now).sort((a, b) => a.restsUntil - b.restsUntil);
    // Turn about, so that load spreads.
    const first = this.#places.shift();
    if (first !== undefined) this.#places.push(first);
    return [...up, ...down];
  }

  /** @param {{ restsUntil: number, failures: number }} place */
  #failed(place) {
    const [first, most] = /** @type {[number, number]} */ (REST_MS);
    place.restsUntil = Date.now() + Math.min(first * 2 ** Math.min(place.failures, 10), most);
    place.failures += 1;
  }

  /**
   * One signal for the time, the caller's own signal and the end of this mesh. (AbortSignal.any is too new.)
   * @param {number} milliseconds
   * @param {AbortSignal | undefined} outer
   */
  #within(milliseconds, outer) {
    const control = new AbortController();
    let late = false;
    const expire = () => {
      late = true;
      control.abort();
    };
    let timer = setTimeout(expire, milliseconds);
    const stop = () => control.abort();
    const others = [outer, this.#closing.signal];
    for (const other of others) {
      if (other?.aborted) stop();
      other?.addEventListener("abort", stop);
    }
    return {
      signal: control.signal,
      timedOut: () => late,
      again: () => {
        clearTimeout(timer);
        timer = setTimeout(expire, milliseconds);
      },
      done: () => {
        clearTimeout(timer);
        for (const other of others) other?.removeEventListener("abort", stop);
      },
    };
  }

  /**
   * @param {unknown} error
   * @param {{ origin: string }} place
   * @param {{ verb: string, path: string, signal?: AbortSignal | undefined }} ask
   * @param {boolean} late
   * @returns {unknown}
   */
  #translated(error, place, ask, late) {
    if (late) return new DeadlineExceeded(`${place.origin} did not answer in time`, { cause: error });
    if (ask.signal?.aborted) return ask.signal.reason ?? error;
    if (this.#closing.signal.aborted) {
      return new Unavailable("the connection was closed here", { fix: "make a new Mesh", details: { maybe: false } });
    }
    if (!(error instanceof TypeError)) return error;
    const cause = /** @type {{ cause?: { code?: string, message?: string } }} */ (error).cause;
    const why = cause?.message ?? cause?.code ?? error.message;
    return new Unavailable(`nobody answers at ${place.origin}: ${why}`, {
      fix: "check the address, the certificate, and, in a browser, http.allowed_origins",
      details: { maybe: !NOT_SENT.has(cause?.code ?? "") },
      cause: error,
    });
  }
}

/** @param {{ origin: string }} place */
function silent(place) {
  return new Unavailable(`${place.origin} fell silent`, { details: { maybe: false } });
}

/**
 * @param {string} text
 * @returns {unknown} undefined if it is not JSON
 */
function decoded(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  return fromJson(value);
}

/**
 * @param {string} url
 * @returns {string}
 */
function originOf(url) {
  let parts;
  try {
    parts = new URL(url);
  } catch {
    throw new UsageError(`${url} is not an address`, { fix: "write https://HOST:PORT" });
  }
  if (!["http:", "https:"].includes(parts.protocol) || parts.username || parts.password) {
    throw new UsageError(`${url} is not an address over HTTP`, { fix: "write https://HOST:PORT" });
  }
  if (!["", "/"].includes(parts.pathname) || parts.search || parts.hash) {
    throw new UsageError(`${url} has more than a host and a port`, { fix: "write https://HOST:PORT" });
  }
  if (parts.protocol === "http:" && !LOCAL.test(parts.hostname)) {
    throw new Denied(`${url} would send the token and all that is called in the clear`, { fix: "use https://" });
  }
  return parts.origin;
}

/**
 * @template T
 * @param {T[]} items
 * @returns {T[]}
 */
function shuffled(items) {
  return items.map((item) => ({ item, lot: Math.random() })).sort((a, b) => a.lot - b.lot).map(({ item }) => item);
}

/**
 * @param {number} milliseconds
 * @param {(AbortSignal | undefined)[]} signals
 * @returns {Promise<void>}
 */
function pause(milliseconds, ...signals) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      for (const signal of signals) signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    for (const signal of signals) {
      if (signal?.aborted) done();
      signal?.addEventListener("abort", done);
    }
  });
}
