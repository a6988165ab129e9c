// Deployments: from the text of a file, or the files of a folder, to the body of a request.

import { UsageError } from "./errors.js";
import { toBase64 } from "./values.js";

const TEXTS = ["name", "namespace", "version", "runtime", "function", "folder"];
const LIMITS = ["memory", "timeout", "idle", "concurrency", "min", "max", "idempotent", "network"];

/**
 * Return the body of a deployment.
 * @param {unknown} source The text of a Python file, or files by path.
 * @param {Record<string, unknown>} options
 * @returns {string}
 */
export function deployment(source, options) {
  /** @type {Record<string, unknown>} */
  const body = {};
  /** @type {Record<string, unknown>} */
  const overrides = {};
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (TEXTS.includes(key)) body[key] = value;
    else if (LIMITS.includes(key)) overrides[key] = value;
    else if (key === "filename") body[key] = value;
    else if (key !== "signal" && key !== "timeoutMs") throw new UsageError(`a deployment has no option ${key}`);
  }
  if (Object.keys(overrides).length > 0) body["overrides"] = overrides;
  if (typeof source === "string") return JSON.stringify({ ...body, source });
  if (typeof source !== "object" || source === null || Object.keys(source).length === 0) {
    throw new UsageError("what is deployed is the text of a file, or files by path");
  }
  if ("filename" in body) throw new UsageError("a folder's files have their own names");
  const files = Object.entries(source).map(([path, content]) => [path, toBase64(bytes(path, content))]);
  return JSON.stringify({ ...body, files: Object.fromEntries(files) });
}

/**
 * @param {string} path
 * @param {unknown} content
 * @returns {Uint8Array}
 */
function bytes(path, content) {
  if (typeof content === "string") return new TextEncoder().encode(content);
  if (content instanceof ArrayBuffer) return new Uint8Array(content);
  if (ArrayBuffer.isView(content)) return new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
  throw new UsageError(`${path} is neither text nor bytes`);
}
