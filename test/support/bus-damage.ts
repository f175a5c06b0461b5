/**
 * Flips each used byte of a channel's control block in turn, and uses both ends. What goes wrong
 * other than with an error of Gapless is a line on stdout. Where it hangs, the file of its second
 * argument says at what.
 */
import fs from "node:fs";
import type { Bus, Publisher, Subscriber } from "gapless/bus";
import { isGaplessError } from "../../src/errors.ts";
import {
  consumerOffset,
  consumerWord,
  lineBytes,
  producerOffset,
  producerWord,
} from "../../src/bus/layout.ts";
import {
  ageChannel,
  channelName,
  declareDead,
  openAs,
  openFile,
  type Settings,
} from "./bus-channel.ts";

const [, , directory = "", progressPath = "", text = "{}"] = process.argv;
const settings = JSON.parse(text) as Settings;
const progress = fs.openSync(progressPath, "w");
const file = openFile(directory, settings);
const [lane] = file.lanes;
const { producers } = file.channel;
ageChannel(lane, 1000, 5);
const pristine = lane.bytes.slice();
const masks = [0x01, 0x02, 0x10, 0x80, 0xff];

/** Lines 1 to 6, and of each party what is before its histograms. */
function* usedBytes(): Generator<number> {
  for (let byte = lineBytes; byte < 7 * lineBytes; byte++) yield byte;
  const blocks = [
    ...producers.map((_name, index) => [producerWord(index), producerOffset.writeLatency] as const),
    [consumerWord(producers.length, 0), consumerOffset.endToEndLatency] as const,
  ];
  for (const [base, words] of blocks) {
    for (let byte = base * 4; byte < (base + words) * 4; byte++) yield byte;
  }
}

function attempt<Result>(what: string, use: () => Result): Result | undefined {
  try {
    return use();
  } catch (error) {
    const codes = ["STORAGE_CORRUPT", "ALREADY_OPEN", "MESSAGES_LOST", "PEER_UNAVAILABLE"] as const;
    if (isGaplessError(error, ...codes)) return undefined;
    console.log(`${what}: ${String(error)}`);
    return undefined;
  }
}

function produce(publisher: Publisher): void {
  for (let count = 0; count < 12; count++) publisher.offer(new Uint8Array(40));
  if (publisher.claim(200) > 0) publisher.commit();
  if (publisher.claim(200) > 0) publisher.abort();
  publisher.waitForRoomBlocking(496, 0);
  publisher.last();
}

function consume(subscriber: Subscriber): void {
  for (let round = 0; round < 4; round++) {
    subscriber.poll((_memory, offset, length) => {
      if (offset < 0 || offset + length > lane.bytes.length) throw new Error("out of the lane");
    }, 100);
    subscriber.release();
    subscriber.waitBlocking(0);
  }
  if (subscriber.lag < 0 || subscriber.lagBytes < 0) throw new Error("a negative lag");
}

const buses = [...producers, "ledger"].map((name) => openAs(directory, name, settings));
const open = (bus: Bus, index: number): Publisher | Subscriber => {
  return index < producers.length ? bus.publisher(channelName) : bus.subscriber(channelName);
};

let cases = 0;
for (const isOpen of [false, true]) {
  for (const byte of usedBytes()) {
    for (const mask of masks) {
      const what = `byte ${byte} flipped by ${mask}, ${isOpen ? "open" : "before opening"}`;
      fs.writeSync(progress, what.padEnd(80), 0);
      lane.bytes.set(pristine);
      const flip = (): void => void (lane.bytes[byte] = (lane.bytes[byte] ?? 0) ^ mask);
      if (!isOpen) flip();
      const ends = buses.map((bus, index) => attempt(what, () => open(bus, index)));
      if (isOpen) flip();
      for (let round = 0; round < 2; round++) {
        for (const end of ends) {
          if (end === undefined) continue;
          attempt(what, () => ("offer" in end ? produce(end) : consume(end)));
        }
      }
      for (const end of ends) attempt(what, () => end?.close());
      // Whoever else has the end now, in the next case it is free.
      for (const index of producers.keys()) declareDead(lane, lane.producer(index));
      cases++;
    }
  }
}
console.log(`cases=${cases}`);
