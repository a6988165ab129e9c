// Errors of the mesh as classes, the same as in Python. An error says what happened, to what, why, and what to do next.

/** The root of all errors of the mesh. */
export class OsirisError extends Error {
  /**
   * @param {string} what
   * @param {{ fix?: string, details?: Record<string, unknown>, cause?: unknown }} [more]
   */
  constructor(what, more = {}) {
    super(more.fix ? `${what}; ${more.fix}` : what, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = new.target.name;
    /** What happened, to what, and why. */
    this.what = what;
    /** What to do next; empty if there is nothing. */
    this.fix = more.fix ?? "";
    /** Attributes for programs. @type {Record<string, unknown>} */
    this.details = more.details ?? {};
  }

  /** A stable word for this kind of error. @returns {string} */
  get code() {
    return /** @type {typeof OsirisError} */ (this.constructor).code;
  }
}
/** @type {string} */
OsirisError.code = "error";

/** The request itself is wrong; sending it again can't help. */
export class UsageError extends OsirisError {}
UsageError.code = "usage";

/** The request contradicts what is already there. */
export class Conflict extends OsirisError {}
Conflict.code = "conflict";

/** Nothing has that name. */
export class NotFound extends OsirisError {}
NotFound.code = "not_found";

/** Nobody can serve the request now; `retryAfterMs` says when to ask again. */
export class Overloaded extends OsirisError {
  /** @returns {number | undefined} */
  get retryAfterMs() {
    const given = this.details["retry_after_ms"];
    return typeof given === "number" ? given : undefined;
  }
}
Overloaded.code = "overloaded";

/** The caller's time ran out before an answer came. */
export class DeadlineExceeded extends OsirisError {}
DeadlineExceeded.code = "deadline";

/** The caller may not do this. */
export class Denied extends OsirisError {}
Denied.code = "denied";

/** No quorum, or nobody can be reached; `maybe` is false when the request surely took no effect. */
export class Unavailable extends OsirisError {
  /** @returns {boolean} */
  get maybe() {
    return this.details["maybe"] !== false;
  }
}
Unavailable.code = "unavailable";

/** The function raised; `type`, `traceback` and the exception's own text, `remoteMessage`. */
export class FunctionError extends OsirisError {
  /** The exception's class, as the function's interpreter gave it. */
  get type() {
    return String(this.details["type"] ?? "");
  }

  /** The exception's own text. */
  get remoteMessage() {
    return String(this.details["message"] ?? "");
  }

  /** The function's own frames. */
  get traceback() {
    return String(this.details["traceback"] ?? "");
  }
}
FunctionError.code = "function";

/** The process that ran the function ended under the call. */
export class WorkerDied extends OsirisError {}
WorkerDied.code = "worker_died";

/** The function went past one of its limits; `details.limit` names it. */
export class LimitExceeded extends OsirisError {}
LimitExceeded.code = "limit";

/** A check did not hold; details say which. */
export class CheckFailed extends OsirisError {}
CheckFailed.code = "check_failed";

/** Bytes that do not follow a protocol. */
export class ProtocolError extends OsirisError {}
ProtocolError.code = "protocol";

/** A defect of the mesh, or an error of a kind this version does not know. */
export class InternalError extends OsirisError {}
InternalError.code = "internal";

/** @type {Map<string, typeof OsirisError>} */
const KINDS = new Map();
for (const kind of [
  UsageError,
  Conflict,
  NotFound,
  Overloaded,
  DeadlineExceeded,
  Denied,
  Unavailable,
  FunctionError,
  WorkerDied,
  LimitExceeded,
  CheckFailed,
  ProtocolError,
  InternalError,
]) {
  KINDS.set(kind.code, kind);
}
// What HTTP or a link alone has, and what it is here.
for (const [code, kind] of /** @type {[string, typeof OsirisError][]} */ ([
  ["unauthenticated", Denied],
  ["method", UsageError],
  ["too_large", UsageError],
  ["media_type", UsageError],
  ["protocol_local", ProtocolError],
  ["protocol_remote", ProtocolError],
])) {
  KINDS.set(code, kind);
}

/**
 * Return the error that a response, or the last event of a stream, carries.
 * @param {number} status
 * @param {unknown} problem What `application/problem+json` decoded to, or anything else.
 * @returns {OsirisError}
 */
export function readProblem(status, problem) {
  if (typeof problem === "object" && problem !== null && "code" in problem && "detail" in problem) {
    const { code, detail, fix, details } = /** @type {Record<string, unknown>} */ (problem);
    if (typeof code === "string" && typeof detail === "string") {
      const kind = KINDS.get(code) ?? InternalError;
      return new kind(detail, {
        fix: typeof fix === "string" ? fix : "",
        details: typeof details === "object" && details !== null ? /** @type {Record<string, unknown>} */ (details) : {},
      });
    }
  }
  // Not from a controller: a proxy in front of it, or something else altogether.
  const what = `the answer has status ${status} and is not a controller's`;
  switch (status) {
    case 401:
    case 403:
    case 407:
      return new Denied(what, { fix: "check the address, and what stands between" });
    case 404:
      return new NotFound(what, { fix: "check the address" });
    case 429:
      return new Overloaded(what, { details: { retry_after_ms: 1000 } });
    case 502:
    case 503:
      return new Unavailable(what, { details: { maybe: status === 502 } });
    case 504:
      return new DeadlineExceeded(what);
    default:
      return new ProtocolError(what);
  }
}
