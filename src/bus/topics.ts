/** Topics: a name in front of a message, and prefixes of names that a consumer wants. */
import { GaplessError } from "../errors.ts";
import { topicBytesMax } from "./layout.ts";

/** A topic as the ring keeps it: made once by `Publisher.topic`, used for many messages. */
export interface Topic {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export type TopicPrefix = Uint8Array;

/** @throws GaplessError CONFIG_INVALID for an empty name or one above 128 bytes. */
export function makeTopic(name: string): Topic {
  const bytes = new TextEncoder().encode(name);
  if (bytes.length > 0 && bytes.length <= topicBytesMax) return { name, bytes };
  throw new GaplessError(
    "CONFIG_INVALID",
    `A topic has 1 to ${topicBytesMax} bytes, this one ${bytes.length}: ${name.slice(0, 40)}`,
  );
}

/** Whether the topic in `bytes` begins with one of the prefixes; no topic is the empty one. */
export function matchesTopic(
  prefixes: readonly TopicPrefix[],
  bytes: Uint8Array,
  start: number,
  length: number,
): boolean {
  for (const prefix of prefixes) {
    if (prefix.length > length) continue;
    let index = 0;
    while (index < prefix.length && bytes[start + index] === prefix[index]) index++;
    if (index === prefix.length) return true;
  }
  return false;
}
