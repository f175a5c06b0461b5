/**
 * A MessagePort to a worker thread: a `postMessage` a message, which copies the payload, because
 * that is what a user sends. It has no bound of its own: the measurement's window is its bound.
 */
import type { Address, Link, Taker, Way } from "./way.ts";

export const messagePort: Way = { listen: open, dial: open };

async function open({ port }: Address, taker: Taker): Promise<Link> {
  if (port === undefined) throw new Error("a MessagePort leads to a thread, not to a process");
  port.on("message", ({ buffer, byteOffset, byteLength }: Uint8Array) =>
    taker(new DataView(buffer, byteOffset, byteLength), 0, byteLength),
  );
  return {
    send: (payload) => port.postMessage(payload),
    flush: () => Promise.resolve(),
    [Symbol.asyncDispose]: async () => port.close(),
  };
}
