/** What a command is ended by that would go on for ever. */

/** Exit code of what was stopped before its end, as a shell has it for Ctrl-C. */
export const exitInterrupted = 130;

export interface Interrupt extends Disposable {
  readonly signal: AbortSignal;
}

/** Aborts on Ctrl-C and SIGTERM, and once nobody reads the output any more. */
export function untilInterrupted(): Interrupt {
  const interrupt = new AbortController();
  const abort = (): void => interrupt.abort();
  process.on("SIGINT", abort).on("SIGTERM", abort);
  process.stdout.on("error", abort);
  return {
    signal: interrupt.signal,
    [Symbol.dispose]() {
      process.off("SIGINT", abort).off("SIGTERM", abort);
    },
  };
}
