/** The commands of a log that nobody has to write down: they follow from their position. */
import type { MsgBuffer } from "../../../src/buffer/buffer.ts";
import type { Message } from "../../../src/message.ts";
import { seededRandom } from "../../../src/random.ts";
import { makeMessages, openIn } from "./fixture.ts";

export type Command =
  | { readonly kind: "append"; readonly messages: readonly Message[] }
  | { readonly kind: "trim"; readonly beforeId: bigint };

/** Few are hot, so that what is compared comes from the disk. */
export function openCommanded(directory: string): Promise<MsgBuffer> {
  return openIn(directory, { capacity: 50 });
}

export function commandAt(seed: number, position: bigint, lastId: bigint): Command {
  const random = seededRandom(seed * 100_003 + Number(position));
  if (random.below(4) === 0) {
    const back = BigInt(random.below(300));
    return { kind: "trim", beforeId: lastId > back ? lastId - back : 1n };
  }
  // Some are empty: then nothing moves but the position.
  const messages = makeMessages(lastId, random.below(20), random.below(300));
  return { kind: "append", messages };
}
