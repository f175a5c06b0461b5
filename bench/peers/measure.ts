/** Measures one way: how many messages a second, and how long there and back. */
import { build } from "hdr-histogram-js";
import { percentilesIn } from "../samples.ts";
import type { Size } from "../figure.ts";
import { pinNearEnd } from "./cores.ts";
import { startFarEnd, type FarEnd } from "./far-end-control.ts";
import { loadWay, type Address, type Link, type WayName } from "./way.ts";

/** What is flushed at a time, as the bus publishes 64 at a time. */
const batchMessages = 64;
/** Neither a MessagePort nor pub/sub holds a sender back: no more than these are on their way. */
const windowMessages = 8192;

export const roundTripBytes = 64;

const limits = {
  full: { warmUpSeconds: 0.2, seconds: 0.5, warmUpRounds: 500 },
  small: { warmUpSeconds: 0, seconds: 0.02, warmUpRounds: 10 },
} as const satisfies Record<Size, object>;

/** In µs. */
export interface RoundTrip {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly p9999: number;
  readonly max: number;
}

export interface Measured {
  /** M msg/s for each size of payload. */
  readonly rates: ReadonlyMap<number, number>;
  readonly roundTrip: RoundTrip;
}

export async function measure(
  name: WayName,
  near: Address,
  far: Address,
  payloads: readonly number[],
  size: Size,
): Promise<Measured> {
  const limit = limits[size];
  await using farEnd = startFarEnd({ name, address: far });
  await farEnd.until(() => farEnd.report !== undefined);
  const way = await loadWay(name);
  let answer = -1;
  await using link = await way.dial(near, (view, offset) => {
    answer = view.getFloat64(offset, true);
    farEnd.look();
  });
  pinNearEnd();
  const traffic: Traffic = { link, farEnd, sent: 0, sum: 0 };
  const rates = new Map<number, number>();
  for (const payloadBytes of payloads) {
    await produce(traffic, payloadBytes, limit.warmUpSeconds);
    rates.set(payloadBytes, await produce(traffic, payloadBytes, limit.seconds));
  }
  const roundTrip = await goThereAndBack(traffic, () => answer, limit.warmUpRounds, limit.seconds);
  return { rates, roundTrip };
}

/** All that went there, from the first message on. */
interface Traffic {
  readonly link: Link;
  readonly farEnd: FarEnd;
  sent: number;
  /** What the far end's sum has to be. */
  sum: number;
}

/** Sends for so long, and returns M msg/s of what the far end has read, every message of it. */
async function produce(traffic: Traffic, payloadBytes: number, seconds: number): Promise<number> {
  const { link, farEnd } = traffic;
  const payload = new Uint8Array(payloadBytes);
  const doubles = new Float64Array(payload.buffer);
  const startMs = performance.now();
  let messages = 0;
  do {
    for (let open = 0; open < batchMessages; open += 1) {
      traffic.sum += fill(doubles, messages++);
      link.send(payload);
    }
    traffic.sent += batchMessages;
    await link.flush();
    if (traffic.sent - takenBy(farEnd) > windowMessages) {
      await farEnd.until(() => traffic.sent - takenBy(farEnd) <= windowMessages / 2);
    }
  } while (performance.now() - startMs < seconds * 1000);
  await checkSum(traffic);
  return messages / ((performance.now() - startMs) * 1000);
}

async function checkSum({ farEnd, sent, sum }: Traffic): Promise<void> {
  farEnd.order({ answers: false, reportAt: sent });
  await farEnd.until(() => takenBy(farEnd) === sent);
  if (farEnd.report?.sum !== sum) throw new Error("the far end read something else");
}

/** One message at a time, 64 bytes each. */
async function goThereAndBack(
  traffic: Traffic,
  answer: () => number,
  warmUpRounds: number,
  seconds: number,
): Promise<RoundTrip> {
  const { link, farEnd } = traffic;
  farEnd.order({ answers: true, reportAt: traffic.sent });
  await farEnd.until(() => farEnd.report?.answers === true);
  const payload = new Uint8Array(roundTripBytes);
  const doubles = new Float64Array(payload.buffer);
  const histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 1e10 });
  let endMs = Infinity;
  for (let round = 0, nowMs = 0; nowMs < endMs; round += 1) {
    if (round === warmUpRounds) endMs = performance.now() + seconds * 1000;
    const sentMs = performance.now();
    traffic.sum += fill(doubles, round);
    traffic.sent += 1;
    link.send(payload);
    await link.flush();
    await farEnd.until(() => answer() === round);
    nowMs = performance.now();
    if (round >= warmUpRounds) histogram.recordValue(Math.round((nowMs - sentMs) * 1e6));
  }
  await checkSum(traffic);
  return percentilesIn(histogram);
}

function takenBy({ report }: FarEnd): number {
  return report?.taken ?? 0;
}

/** Writes what the bus benchmark writes, and returns what it adds to the sum. */
function fill(doubles: Float64Array, message: number): number {
  if (doubles.length > 8) {
    doubles[0] = message;
    return message;
  }
  for (let index = 0; index < doubles.length; index += 1) doubles[index] = message;
  return message * doubles.length;
}
