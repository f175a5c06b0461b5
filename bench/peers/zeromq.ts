/**
 * ZeroMQ over ipc, a PUSH and a PULL socket each way. A message is a `send`, as the library wants
 * it: it puts small messages together below, and its own high-water mark holds the sender back. A
 * higher mark gains nothing.
 */
import path from "node:path";
import { Pull, Push } from "zeromq";
import type { Link, Taker, Way } from "./way.ts";

export const zeromq: Way = {
  async listen({ directory }, taker) {
    const push = new Push({ linger: 0 });
    const pull = new Pull();
    await push.bind(ipc(directory, "back"));
    await pull.bind(ipc(directory, "there"));
    return link(push, pull, taker);
  },

  async dial({ directory }, taker) {
    const push = new Push({ linger: 0 });
    const pull = new Pull();
    push.connect(ipc(directory, "there"));
    pull.connect(ipc(directory, "back"));
    return link(push, pull, taker);
  },
};

function ipc(directory: string, name: string): string {
  return `ipc://${path.join(directory, name)}`;
}

function link(push: Push, pull: Pull, taker: Taker): Link {
  const received = receive(pull, taker);
  let unsent: Uint8Array[] = [];
  return {
    // A copy: the library reads larger messages where they are, at a time of its own.
    send: (payload) => void unsent.push(payload.slice()),
    async flush() {
      const batch = unsent;
      unsent = [];
      for (const payload of batch) await push.send(payload);
    },
    async [Symbol.asyncDispose]() {
      push.close();
      pull.close();
      await received;
    },
  };
}

async function receive(pull: Pull, taker: Taker): Promise<void> {
  for await (const [bytes] of pull) {
    if (bytes === undefined) throw new Error("a message without a part");
    taker(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length);
  }
}
