// Server-sent events, read piece by piece. Source: WHATWG HTML, "Server-sent events", event stream interpretation.

import { ProtocolError } from "./errors.js";

const MOST = 4 << 20;

/** Puts events together from the bytes of a stream. */
export class EventReader {
  #decoder = new TextDecoder("utf-8", { fatal: true });
  #held = "";
  #name = "";
  #id = "";
  /** @type {string[]} */
  #data = [];
  #size = 0;

  /**
   * Take bytes and return the events that are complete.
   * @param {Uint8Array} bytes
   * @returns {{ name: string, data: string, id: string }[]}
   */
  feed(bytes) {
    try {
      this.#held += this.#decoder.decode(bytes, { stream: true });
    } catch {
      throw new ProtocolError("an event is not UTF-8");
    }
    /** @type {{ name: string, data: string, id: string }[]} */
    const events = [];
    const ends = /\r\n|\n|\r(?!$)/g;
    let start = 0;
    for (let end = ends.exec(this.#held); end !== null; end = ends.exec(this.#held)) {
      this.#line(this.#held.slice(start, end.index), events);
      start = ends.lastIndex;
    }
    this.#held = this.#held.slice(start);
    if (this.#held.length + this.#size > MOST) throw new ProtocolError(`an event of more than ${MOST} letters`);
    return events;
  }

  /**
   * @param {string} line
   * @param {{ name: string, data: string, id: string }[]} events
   */
  #line(line, events) {
    if (line === "") {
      if (this.#data.length > 0) {
        events.push({ name: this.#name || "message", data: this.#data.join("\n"), id: this.#id });
      }
      this.#name = "";
      this.#data = [];
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") {
      this.#size += value.length + 1;
      if (this.#size > MOST) throw new ProtocolError(`an event of more than ${MOST} letters`);
      this.#data.push(value);
    } else if (field === "event") {
      this.#name = value;
    } else if (field === "id" && !value.includes("\0")) {
      this.#id = value;
    }
  }
}
