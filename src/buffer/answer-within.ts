/** An answer that is waited for, and not for ever. */
import { GaplessError } from "../errors.ts";

/**
 * The answer, or a rejection after `timeoutMs` with PEER_UNAVAILABLE, or with the signal's reason.
 */
export async function answerWithin<Answer>(
  answer: Promise<Answer>,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  let leave = (): void => undefined;
  const over = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => {
      reject(new GaplessError("PEER_UNAVAILABLE", `It did not answer within ${timeoutMs} ms.`));
    }, timeoutMs);
    const onAbort = (): void => reject(signal?.reason as Error);
    leave = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener("abort", onAbort);
  });
  try {
    return await Promise.race([answer, over]);
  } finally {
    leave();
  }
}
