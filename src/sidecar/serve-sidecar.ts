/** The thread's side of a sidecar: what it is asked, what it answers, and how it serves. */
import { workerData, type MessagePort } from "node:worker_threads";
import { assert, describeError, GaplessError, type ErrorCode } from "../errors.ts";

/** Indices of the words that both threads see. */
export const statusWord = {
  /** Requests that are done, and have nothing to tell. */
  done: 0,
  /** 1 once the thread ends by itself: for one that never lets an event come. */
  ended: 1,
} as const;

export type Letter<Request> =
  | { readonly kind: "request"; readonly request: Request }
  /** The last one. */
  | { readonly kind: "close" };

export type Answer<Reply> =
  | { readonly kind: "reply"; readonly reply: Reply }
  /** Handed over as a reply, but no request is done by it. */
  | { readonly kind: "news"; readonly reply: Reply }
  /** A GaplessError, which loses its class on the way between threads. */
  | {
      readonly kind: "failed";
      readonly code: ErrorCode;
      readonly text: string;
      readonly stack: string | undefined;
    };

export interface SidecarData {
  readonly port: MessagePort;
  readonly status: Int32Array;
  readonly data: unknown;
}

/**
 * Does what is asked. `data` is what `startSidecar` was given for the thread. What is told arrives
 * as a reply does, at any time, and nothing bounds it but whoever tells.
 */
export type Handle<Request, Reply, Data> = (
  request: Request,
  data: Data,
  tell: (news: NonNullable<Reply>) => void,
) => Reply | Promise<Reply>;

/**
 * Serves one request after the other, in the order they came. What `handle` returns goes back,
 * unless it is undefined. What it throws is told there, and the next request is served.
 *
 * @param onClose Called behind the last request, before the thread ends. Not where it dies.
 */
export function serveSidecar<Request, Reply = void, Data = unknown>(
  handle: Handle<Request, Reply, Data>,
  onClose?: () => unknown,
): void {
  const { port, status, data } = workerData as SidecarData;
  assert(status instanceof Int32Array, "only what startSidecar has started can serve");

  const serve = async (letter: Letter<Request>): Promise<void> => {
    try {
      if (letter.kind === "close") await onClose?.();
      else answer(await handle(letter.request, data as Data, tell));
    } catch (error) {
      port.postMessage(failed(error));
    }
    // Whatever `handle` left behind: a timer would keep the thread, and whoever closes it.
    if (letter.kind === "close") process.exit();
  };

  const tell = (reply: Reply): void => {
    port.postMessage({ kind: "news", reply } satisfies Answer<Reply>);
  };

  const answer = (reply: Reply): void => {
    if (reply !== undefined) port.postMessage({ kind: "reply", reply } satisfies Answer<Reply>);
    // SYNC sidecar-done: what was done for it is there before; pairs with Sidecar.pending.
    else Atomics.add(status, statusWord.done, 1);
  };

  let turn = Promise.resolve();
  port.on("message", (letter: Letter<Request>) => {
    turn = turn.then(() => serve(letter));
  });
  // SYNC sidecar-ended: behind all answers; pairs with Sidecar.livingThread.
  process.on("exit", () => Atomics.store(status, statusWord.ended, 1));
}

function failed(error: unknown): Answer<never> {
  const stack = error instanceof Error ? error.stack : undefined;
  const code = error instanceof GaplessError ? error.code : "SYSTEM_CALL_FAILED";
  return { kind: "failed", code, text: describeError(error), stack };
}
