/** What went wrong at a broker: for good, or until it is asked again. */
import { describeError, GaplessError, isGaplessError } from "../errors.ts";

/** Answers of Kafka that stay the same however often it is asked. */
const finalAnswers: ReadonlySet<unknown> = new Set([
  "CLUSTER_AUTHORIZATION_FAILED",
  "GROUP_AUTHORIZATION_FAILED",
  "TOPIC_AUTHORIZATION_FAILED",
  "SASL_AUTHENTICATION_FAILED",
  "UNSUPPORTED_SASL_MECHANISM",
  "INCONSISTENT_GROUP_PROTOCOL",
  "INVALID_GROUP_ID",
  "INVALID_SESSION_TIMEOUT",
  "INVALID_TOPIC_EXCEPTION",
  "UNSUPPORTED_VERSION",
]);

/** Codes of the client library, of what no broker changes its mind about. */
const finalCodes: ReadonlySet<unknown> = new Set([
  "PLT_KFK_AUTHENTICATION",
  "PLT_KFK_UNSUPPORTED",
  "PLT_KFK_UNSUPPORTED_API",
  "PLT_KFK_UNSUPPORTED_COMPRESSION",
]);

/** The library hands out trees of errors: what happened is in the leaves. */
interface LibraryError extends Error {
  readonly code?: unknown;
  readonly apiId?: unknown;
  readonly errors?: readonly unknown[];
}

/** Whether `error`, or one that it holds, satisfies `holds`. */
function someError(error: unknown, holds: (one: LibraryError) => boolean): boolean {
  if (!(error instanceof Error)) return false;
  const one: LibraryError = error;
  return (
    holds(one) ||
    (one.errors ?? []).some((inner) => someError(inner, holds)) ||
    someError(one.cause, holds)
  );
}

/** Whether a broker has given this answer: a name of the list of error codes of Kafka. */
export function isAnswer(error: unknown, apiId: string): boolean {
  return someError(error, (one) => one.apiId === apiId);
}

/** Whether the library says that it was called wrongly; so it says that there is no such topic. */
export function isUserError(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "PLT_KFK_USER";
}

/** Whether the library, or the network below it, has made this error, and no bug. */
export function isLibraryError(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string";
}

/** The error to end with; undefined where asking again makes sense. */
export function finalError(error: unknown, group: string): GaplessError | undefined {
  if (isGaplessError(error)) return error.advice === "retry" ? undefined : error;
  if (isAnswer(error, "INCONSISTENT_GROUP_PROTOCOL")) {
    return new GaplessError(
      "CONFIG_INVALID",
      `group=${group} has members that are not of Gapless: give each kind a group of its own.`,
      { cause: error },
    );
  }
  const isFinal = someError(
    error,
    (one) => finalAnswers.has(one.apiId) || finalCodes.has(one.code),
  );
  if (!isFinal) return undefined;
  return new GaplessError(
    "CONFIG_INVALID",
    `The brokers refuse what is asked of them, group=${group}: ${reasonsOf(error)}.`,
    { cause: error },
  );
}

/** The texts of the leaves, without what the library says about its own tries. */
export function reasonsOf(error: unknown): string {
  const inner = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  if (inner.length === 0) return describeError(error).replace(/\.$/, "");
  return [...new Set(inner.map(reasonsOf))].join("; ");
}
