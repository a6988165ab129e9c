// Values between JavaScript and JSON: bytes are {"$bytes": base64} there, and the numbers JSON lacks {"$float": …}.

import { ProtocolError, UsageError } from "./errors.js";

const DEPTH = 128;
const CHUNK = 0x8000;

/**
 * Return a value as JSON carries it.
 * @param {unknown} value
 * @param {number} [depth]
 * @returns {unknown}
 */
export function toJson(value, depth = 0) {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (Number.isFinite(value)) return Object.is(value, -0) ? 0 : value;
      return { $float: Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf" };
    case "bigint":
      if (value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
      throw new UsageError(`${value} is past what a number carries exactly`, { fix: "send it as a string" });
    case "object":
      break;
    default:
      throw new UsageError(`a value of type ${typeof value} can't be sent`, { fix: "send JSON types or bytes" });
  }
  if (value === null) return null;
  if (depth > DEPTH) throw new UsageError(`the value is nested deeper than ${DEPTH}`);
  if (value instanceof ArrayBuffer) return { $bytes: toBase64(new Uint8Array(value)) };
  if (ArrayBuffer.isView(value)) {
    return { $bytes: toBase64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)) };
  }
  if (Array.isArray(value)) return value.map((item) => toJson(item, depth + 1));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    throw new UsageError(`a ${value.constructor?.name ?? "object"} can't be sent`, { fix: "send JSON types or bytes" });
  }
  /** @type {Record<string, unknown>} */
  const result = Object.create(null);
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined) result[key] = toJson(item, depth + 1);
  }
  return result;
}

/**
 * Return what decoded JSON stands for.
 * @param {unknown} value
 * @param {number} [depth]
 * @returns {unknown}
 */
export function fromJson(value, depth = 0) {
  if (typeof value !== "object" || value === null) return value;
  if (depth > DEPTH) throw new ProtocolError(`the answer is nested deeper than ${DEPTH}`);
  if (Array.isArray(value)) return value.map((item) => fromJson(item, depth + 1));
  const entries = Object.entries(value);
  if (entries.length === 1) {
    const [key, item] = /** @type {[string, unknown]} */ (entries[0]);
    if (key === "$bytes" && typeof item === "string") return fromBase64(item);
    if (key === "$float" && typeof item === "string") {
      if (item === "nan") return NaN;
      if (item === "inf") return Infinity;
      if (item === "-inf") return -Infinity;
    }
  }
  // Not assigned one by one: a key may be called __proto__.
  return Object.fromEntries(entries.map(([key, item]) => [key, fromJson(item, depth + 1)]));
}

/**
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += CHUNK) {
    text += String.fromCharCode(...bytes.subarray(start, start + CHUNK));
  }
  return btoa(text);
}

/**
 * @param {string} text
 * @returns {Uint8Array}
 */
export function fromBase64(text) {
  let raw;
  try {
    raw = atob(text);
  } catch {
    throw new ProtocolError("a $bytes holds what is not base64");
  }
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at += 1) bytes[at] = raw.charCodeAt(at);
  return bytes;
}
