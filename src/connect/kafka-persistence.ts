/** Asking brokers until they answer. */
import { setTimeout as sleep } from "node:timers/promises";
import { isGaplessError } from "../errors.ts";
import { finalError } from "./kafka-errors.ts";
import type { ResolvedKafkaOptions } from "./kafka-options.ts";

/**
 * Calls until it succeeds, with a pause that grows between the tries. undefined when `signal`
 * aborts before that; the call that is under way then goes on without anybody who listens.
 *
 * @throws GaplessError where asking again makes no sense, or a topic is unknown for too long.
 */
export async function persist<Result>(
  call: () => Promise<Result>,
  options: ResolvedKafkaOptions,
  signal: AbortSignal,
): Promise<Result | undefined> {
  let delayMs = options.retryDelayMs.first;
  let unknownSinceMs: number | undefined;
  const isAborted = (): boolean => signal.aborted;
  while (!isAborted()) {
    try {
      return await orAborted(call(), signal);
    } catch (error) {
      // Aborted: this may be nothing but the end of a connection.
      if (isAborted()) break;
      const final = finalError(error, options.group);
      if (final !== undefined) throw final;
      if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) {
        unknownSinceMs ??= performance.now();
        if (performance.now() - unknownSinceMs >= options.topicWaitMs) throw error;
      } else {
        unknownSinceMs = undefined;
      }
      options.onOutage?.(error instanceof Error ? error : new Error(String(error)));
    }
    await pause(delayMs, signal);
    delayMs = Math.min(delayMs * 2, options.retryDelayMs.most);
  }
  return undefined;
}

/** The result of `promise`, or undefined as soon as `signal` aborts. */
export async function orAborted<Result>(
  promise: Promise<Result>,
  signal: AbortSignal,
): Promise<Result | undefined> {
  if (signal.aborted) {
    promise.catch(() => undefined);
    return undefined;
  }
  const aborted = Promise.withResolvers<undefined>();
  const onAbort = (): void => aborted.resolve(undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** An abort ends the pause; whoever paused looks at the signal. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

/** A signal that aborts so much later than another one; to be disposed of after use. */
export function abortLater(signal: AbortSignal, ms: number): Disposable & { signal: AbortSignal } {
  const later = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => later.abort(), ms);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return {
    signal: later.signal,
    [Symbol.dispose]() {
      signal.removeEventListener("abort", onAbort);
      clearTimeout(timer);
    },
  };
}
