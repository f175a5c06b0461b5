/** The result, or a rejection with the signal's reason as soon as it aborts. */
export async function orAborted<Result>(
  result: Promise<Result>,
  signal: AbortSignal,
): Promise<Result> {
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort);
  });
  try {
    // Of two that are settled, the first one wins.
    return await Promise.race([aborted, result]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener("abort", onAbort);
  }
}
