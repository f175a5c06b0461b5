/** What a source that can be polled delivers: batches as they come, and null for silences. */
import type { Batch } from "../message.ts";

/** First silence after which it is told; doubled, up to `most`, as it goes on. */
export interface SilenceMs {
  readonly first: number;
  readonly most: number;
}

export const silenceMsDefault: SilenceMs = { first: 200, most: 5000 };

/** Something to poll. */
export interface Polled {
  /** What has come; undefined where nothing has. */
  poll(): Batch | undefined;
  /** Whether nothing can come any more. */
  isOver(): boolean;
  /** Resolves once something may have come, at an abort, and when the time is up. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void>;
}

export async function* pollLive(
  polled: Polled,
  silenceMs: SilenceMs,
  signal: AbortSignal,
): AsyncGenerator<Batch | null, void, void> {
  let waitMs = silenceMs.first;
  while (!signal.aborted) {
    const messages = polled.poll();
    if (messages !== undefined) {
      waitMs = silenceMs.first;
      yield messages;
      continue;
    }
    if (polled.isOver()) return;
    const beforeMs = performance.now();
    await polled.wait(waitMs, signal);
    if (performance.now() - beforeMs < waitMs) continue;
    waitMs = Math.min(waitMs * 2, silenceMs.most);
    yield null;
  }
}
