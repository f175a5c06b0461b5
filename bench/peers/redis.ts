/**
 * Redis pub/sub, a channel each way. A message is a PUBLISH; the client sends those between two
 * flushes together, and several batches are on their way before the first is answered.
 */
import path from "node:path";
import { createClient } from "redis";
import type { Address, Link, Taker, Way } from "./way.ts";

const batchesUnansweredMax = 16;

export const redis: Way = {
  listen: (address, taker) => connect(address, "back", "there", taker),
  dial: (address, taker) => connect(address, "there", "back", taker),
};

async function connect(
  { redisUrl, directory }: Address,
  to: string,
  from: string,
  taker: Taker,
): Promise<Link> {
  if (redisUrl === undefined) throw new Error("no Redis to connect to");
  // A lost connection has lost messages: then the measurement fails.
  const options = { url: redisUrl, socket: { reconnectStrategy: false } } as const;
  // A connection that subscribes does nothing else.
  const publisher = createClient(options);
  const subscriber = createClient(options);
  const channelOf = (name: string): string => `${path.basename(directory)}-${name}`;
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const take = ({ buffer, byteOffset, length }: Buffer): void =>
    taker(new DataView(buffer, byteOffset, length), 0, length);
  await subscriber.subscribe(channelOf(from), take, true);

  const channel = channelOf(to);
  const unanswered: Promise<unknown>[] = [];
  let batch: Promise<number>[] = [];
  return {
    // A copy: the client writes the payload later, from where it is.
    send: (payload) => void batch.push(publisher.publish(channel, Buffer.from(payload))),
    async flush() {
      unanswered.push(Promise.all(batch));
      batch = [];
      if (unanswered.length >= batchesUnansweredMax) await unanswered.shift();
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(unanswered);
      publisher.destroy();
      subscriber.destroy();
    },
  };
}
