/** What a call carries: JSON's types, bytes, and the floats JSON lacks. Bytes arrive as `Uint8Array`. */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | ArrayBuffer
  | ArrayBufferView
  | readonly Value[]
  | { readonly [key: string]: Value | undefined };

declare class Keywords {
  readonly values: { readonly [name: string]: Value | undefined };
  private constructor();
}

/** Mark the last argument of a call as arguments by keyword: `mesh.call("a/b", 1, kwargs({ strength: 0.8 }))`. */
export function kwargs(values: { readonly [name: string]: Value | undefined }): Keywords;

export type Argument = Value | Keywords;

export interface Options {
  /** Milliseconds for a whole call; otherwise the function's own limit holds. */
  timeoutMs?: number;
  /** A call may be repeated elsewhere if a node dies under it. */
  idempotent?: boolean;
  /** `1.4.2`, `1.4`, `^1.4`, `~1.4.2`. */
  version?: string;
  /** Security context the call, and whatever it calls, is kept to: `controlled; functions=team-a/*`; it only ever narrows. */
  context?: string;
  /** Gives up what is under way. */
  signal?: AbortSignal;
}

export interface Where extends Options {
  /** `https://HOST:PORT`, or several; `http://` to this machine only. */
  url: string | readonly string[];
  /** API token, `osa1…`. */
  token: string;
  /** Used instead of the global one. */
  fetch?: typeof fetch;
}

export interface Parameter {
  name: string;
  kind: "positional_only" | "positional_or_keyword" | "var_positional" | "keyword_only" | "var_keyword";
  required: boolean;
  type: string;
}

/** Who answers for a function of a registry: what its record says, and what the controller sees of it. */
export interface Provider {
  id: string;
  endpoint: string;
  region?: string;
  sla?: "best-effort" | "standard" | "premium";
  cost_micros?: number;
  currency?: string;
  weight?: number;
  response_ms: number;
  availability: number;
  open: boolean;
  draining: boolean;
  in_flight: number;
}

export interface Resolved {
  name: string;
  version: string;
  digest: string;
  signature: { text: string; parameters: Parameter[]; returns: string };
  description: string;
  timeoutMs: number;
  idempotent: boolean;
  /** `local`, or the registry that said so. */
  source: string;
  /** Seconds since that registry said so. */
  age: number;
  /** Older than it should be: nobody gave a newer answer in time. */
  stale: boolean;
  /** Why this version should not be used any longer; null: it is in use. */
  deprecated: string | null;
  requirements: { level: string; permissions: string[]; trusted_providers: string[] } | null;
  versions: string[];
  /** The one asked first first; empty for a function of the mesh. */
  providers: Provider[];
  /** For how long it may be relied on. */
  ttlMs: number;
}

export interface FunctionRow {
  name: string;
  versions: string[];
  active: string | null;
  instances: number;
  description: string;
}

export interface Detailed<T> {
  result: T;
  node: string;
  version: string;
  warm: boolean;
  elapsedUs: number;
}

export interface LogLine {
  function: string;
  time_ms: number;
  version: string;
  call: string;
  stream: string;
  text: string;
}

export interface MeshEvent {
  name: string;
  sequence: number;
  time_ms: number;
  fields: { [key: string]: unknown };
}

export interface RemoteFunction<T = unknown> {
  (...args: Argument[]): Promise<T>;
  readonly signature: string;
  readonly description: string;
}

/** Calls with fixed options; `mesh.options` makes one. */
export class Calls {
  protected constructor(gateway: unknown, options: Options);
  /** Return the same with other options; what is not given stays as it is. */
  options(options: Options): Calls;
  /**
   * Call a function and return its result; every argument goes to the function.
   * @throws {UsageError} The arguments don't fit its signature; nothing ran.
   * @throws {FunctionError} The function raised.
   */
  call<T = unknown>(name: string, ...args: Argument[]): Promise<T>;
  /** The same as `call`. */
  callFunction<T = unknown>(name: string, ...args: Argument[]): Promise<T>;
  /** Call a function and return its result with what is known of the call. */
  detailed<T = unknown>(name: string, ...args: Argument[]): Promise<Detailed<T>>;
  /** Call a function once for each item and yield the results in the items' order. */
  map<T = unknown>(
    name: string,
    items: Iterable<Value> | AsyncIterable<Value>,
    options?: { concurrency?: number },
  ): AsyncGenerator<T, void, undefined>;
  /** Return a function of the mesh as a JavaScript function. */
  function<T = unknown>(name: string): Promise<RemoteFunction<T>>;
  /** Return which version a name means, and its signature. */
  resolve(name: string): Promise<Resolved>;
  /** Ask for something below `/v1`. */
  get(path: string): Promise<{ [key: string]: unknown }>;
}

/** What is deployed: the text of one Python file, or the files of a folder by path. */
export type Source = string | { readonly [path: string]: string | ArrayBuffer | ArrayBufferView };

export interface UpdateOptions {
  /** Semantic version; the next patch if not given. */
  version?: string;
  /** `python3.11` */
  runtime?: string;
  /** Which function of the file. */
  function?: string;
  /** Name of the file, where the source is a text; `function.py` if not given. */
  filename?: string;
  /** `256MiB` */
  memory?: string;
  /** `1.5s` */
  timeout?: string;
  /** `5m` */
  idle?: string;
  concurrency?: number;
  /** Instances kept warm in the mesh. */
  min?: number;
  /** Most instances on one node. */
  max?: number;
  idempotent?: boolean;
  network?: boolean;
  /** Milliseconds for the whole deployment. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface DeployOptions extends UpdateOptions {
  /** The function's name; of several functions their namespace. */
  name?: string;
  /** Namespace of what has none. */
  namespace?: string;
  /** Name of the folder the files lie in: the namespace of what has none. */
  folder?: string;
}

export interface Deployed {
  name: string;
  version: string;
  digest: string;
  /** False: this very code was active already. */
  changed: boolean;
  tests: { ok: boolean; passed: number; failed: number; [key: string]: unknown } | null;
  height: number | null;
  /** Nodes that had it on disk when it was published, of `nodes` that lived. */
  copies: number | null;
  nodes: number | null;
}

/** A mesh, through its gateways. */
export class Mesh extends Calls {
  constructor(where: Where);
  list(): Promise<FunctionRow[]>;
  describe(name: string): Promise<FunctionRow & { [key: string]: unknown }>;
  status(): Promise<{ [key: string]: unknown }>;
  /**
   * Deploy the functions of a source; the gateway builds, tests and publishes them.
   * @throws {CheckFailed} Its tests failed; the version that was active stays.
   */
  deploy(source: Source, options?: DeployOptions): Promise<Deployed[]>;
  /** Give a function that is there new code. */
  update(name: string, source: Source, options?: UpdateOptions): Promise<Deployed>;
  /** Remove a function, or one version of it that is not active. */
  remove(name: string, options?: { version?: string; signal?: AbortSignal }): Promise<void>;
  /** Make an earlier version the active one, the one before if none is named, and return which it is. */
  rollback(name: string, options?: { to?: string; signal?: AbortSignal }): Promise<string>;
  /** Yield what functions printed on the node that answers; with `follow`, without end. */
  logs(
    name?: string,
    options?: { tail?: number; sinceMs?: number; follow?: boolean; signal?: AbortSignal },
  ): AsyncGenerator<LogLine, void, undefined>;
  /** Yield events of the mesh as they happen; a stream that breaks goes on where it was. */
  events(options?: {
    names?: readonly string[];
    after?: number;
    signal?: AbortSignal;
  }): AsyncGenerator<MeshEvent, void, undefined>;
  /** End what is under way; nothing more can be asked. */
  close(): void;
}

/** The root of all errors of the mesh. */
export class OsirisError extends Error {
  static code: string;
  constructor(what: string, more?: { fix?: string; details?: Record<string, unknown>; cause?: unknown });
  /** A stable word for this kind of error. */
  get code(): string;
  /** What happened, to what, and why. */
  what: string;
  /** What to do next; empty if there is nothing. */
  fix: string;
  /** Attributes for programs. */
  details: Record<string, unknown>;
}

/** The request itself is wrong, arguments that don't fit a signature included. */
export class UsageError extends OsirisError {}
/** The request contradicts what is already there. */
export class Conflict extends OsirisError {}
/** Nothing has that name. */
export class NotFound extends OsirisError {}
/** Nobody can serve the request now. */
export class Overloaded extends OsirisError {
  get retryAfterMs(): number | undefined;
}
/** The caller's time ran out before an answer came. */
export class DeadlineExceeded extends OsirisError {}
/** The caller may not do this. */
export class Denied extends OsirisError {}
/** No quorum, or nobody can be reached. */
export class Unavailable extends OsirisError {
  /** False when the request surely took no effect. */
  get maybe(): boolean;
}
/** The function raised. */
export class FunctionError extends OsirisError {
  /** The exception's class, as the function's interpreter gave it. */
  get type(): string;
  /** The exception's own text. */
  get remoteMessage(): string;
  /** The function's own frames. */
  get traceback(): string;
}
/** The process that ran the function ended under the call. */
export class WorkerDied extends OsirisError {}
/** The function went past one of its limits. */
export class LimitExceeded extends OsirisError {}
/** A check did not hold. */
export class CheckFailed extends OsirisError {}
/** Bytes that do not follow a protocol. */
export class ProtocolError extends OsirisError {}
/** A defect of the mesh, or an error of a kind this version does not know. */
export class InternalError extends OsirisError {}
