/**
 * How fast is a channel between two processes, each on a core of its own?
 *
 *   bus.spsc.64     messages of 64 bytes, M msg/s: written in place, published 64 at a time
 *   bus.spsc.1024   messages of 1 KB, GB/s of payload: copied in, published 16 at a time
 *   bus.rtt.64      there and back, µs, each message published by itself
 *   bus.peers.*     what a Node user has today: bench/peers/
 *
 * The consumer reads every message and the sum of what it read is checked. The reference is
 * bench/reference/ring.c: the same ring, the same work, the same batches, the same cores.
 */
import { execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { build } from "hdr-histogram-js";
import { BACK_PRESSURED, openBus, parseChannels, type Channels } from "gapless/bus";
import { pinThread } from "../src/memory/affinity.ts";
import { figure, type Figure, type Size } from "./figure.ts";
import { peers } from "./peers/peers.ts";

export interface PeerTask {
  readonly kind: "throughput" | "roundtrip";
  readonly directory: string;
  readonly payloadBytes: number;
  readonly ringBytes: number;
  readonly messages: number;
  /** How long the peer leaves an empty ring alone. */
  readonly pauses: number;
}

const ownCore = 0;
// Not availableParallelism(): a peer inherits that its parent is pinned.
export const otherCore = os.cpus().length > 1 ? 1 : 0;

export function channelsFor({ ringBytes }: PeerTask): Channels {
  const channel = {
    type: "SPSC",
    buffer_size: ringBytes,
    message_size_max: 4096,
  };
  return parseChannels(
    {
      there: { ...channel, producer: "bench", consumer: "peer" },
      back: { ...channel, producer: "peer", consumer: "bench" },
    },
    "bench/bus.ts",
  );
}

export async function bus(size: Size): Promise<Figure[]> {
  const share = size === "full" ? 1 : 1000;
  const reference = buildReference();
  const small = await throughput(64, 100_000_000 / share, 64, reference, (rate) => [
    rate / 1e6,
    "M msg/s",
  ]);
  const large = await throughput(1024, 20_000_000 / share, 16, reference, (rate) => [
    (rate * 1024) / 1e9,
    "GB/s",
  ]);
  const millionsPerSecond = new Map([
    [64, small.value],
    [1024, (large.value * 1000) / 1024],
  ]);
  return [
    small,
    large,
    await roundTrip(64, 200_000 / share, reference),
    ...(await peers(size, millionsPerSecond)),
  ];
}

async function throughput(
  payloadBytes: number,
  messages: number,
  batch: number,
  reference: string | undefined,
  convert: (messagesPerSecond: number) => [number, string],
): Promise<Figure> {
  const ringBytes = 4 * 2 ** 20;
  const seconds = await withPeer(
    { kind: "throughput", payloadBytes, ringBytes, messages, pauses: 64 },
    async (directory, task, sum) => {
      using own = openBus({ directory, channels: channelsFor(task) }, { service: "bench" });
      const publisher = own.publisher("there");
      const start = process.hrtime.bigint();
      const expected = produce(publisher, payloadBytes, messages, batch);
      if ((await sum) !== expected) throw new Error("the consumer read something else");
      return Number(process.hrtime.bigint() - start) / 1e9;
    },
  );
  const [value, unit] = convert(messages / seconds);
  const inC =
    reference === undefined
      ? undefined
      : convert(
          1e9 /
            Number(runReference(reference, "throughput", payloadBytes, messages, batch, ringBytes)),
        )[0];
  return figure(`bus.spsc.${payloadBytes}`, value, unit, inC, { batch });
}

type OwnPublisher = ReturnType<ReturnType<typeof openBus>["publisher"]>;

/** Writes all messages and returns what their sum has to be. */
function produce(
  publisher: OwnPublisher,
  payloadBytes: number,
  messages: number,
  batch: number,
): number {
  const { bytes, doubles } = publisher.memory;
  const template = new Uint8Array(payloadBytes);
  let expected = 0;
  let open = 0;
  for (let message = 0; message < messages; message++) {
    let offset = publisher.claim(payloadBytes);
    while (offset === BACK_PRESSURED) {
      if (open > 0) publisher.commit();
      open = 0;
      offset = publisher.claim(payloadBytes);
    }
    const start = offset >>> 3;
    if (payloadBytes > 64) {
      bytes.set(template, offset);
      doubles[start] = message;
      expected += message;
    } else {
      doubles[start] = message;
      doubles[start + 1] = message;
      doubles[start + 2] = message;
      doubles[start + 3] = message;
      doubles[start + 4] = message;
      doubles[start + 5] = message;
      doubles[start + 6] = message;
      doubles[start + 7] = message;
      expected += message * 8;
    }
    if (++open === batch) {
      publisher.commit();
      open = 0;
    }
  }
  publisher.commit();
  return expected;
}

async function roundTrip(
  payloadBytes: number,
  rounds: number,
  reference: string | undefined,
): Promise<Figure> {
  const ringBytes = 2 ** 20;
  const warmUp = Math.floor(rounds / 10);
  const histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 1e9 });
  await withPeer(
    { kind: "roundtrip", payloadBytes, ringBytes, messages: rounds, pauses: 0 },
    async (directory, task, sum) => {
      using own = openBus({ directory, channels: channelsFor(task) }, { service: "bench" });
      const publisher = own.publisher("there");
      const subscriber = own.subscriber("back");
      const { doubles } = publisher.memory;
      const answered = new Float64Array(1);
      let expected = 0;
      for (let round = 0; round < rounds; round++) {
        const before = performance.now();
        const offset = publisher.claim(payloadBytes);
        const start = offset >>> 3;
        for (let index = 0; index < payloadBytes >>> 3; index++) doubles[start + index] = round;
        publisher.commit();
        while (
          subscriber.poll((memory, at) => {
            answered[0] = memory.doubles[at >>> 3] ?? -1;
          }, 1) === 0
        );
        subscriber.release();
        if (round >= warmUp) histogram.recordValue(Math.round((performance.now() - before) * 1e6));
        if (answered[0] !== round) throw new Error(`answer ${answered[0] ?? ""} to round ${round}`);
        expected += round * (payloadBytes >>> 3);
      }
      if ((await sum) !== expected) throw new Error("the peer read something else");
    },
  );
  const micros = (percentile: number): number => histogram.getValueAtPercentile(percentile) / 1000;
  const inC =
    reference === undefined
      ? undefined
      : median(runReference(reference, "roundtrip", payloadBytes, rounds, ringBytes)) / 1000;
  return figure(`bus.rtt.${payloadBytes}`, micros(50), "µs", inC, {
    p50: micros(50),
    p99: micros(99),
    p999: micros(99.9),
    p9999: micros(99.99),
    max: histogram.maxValue / 1000,
  });
}

/** Starts the peer, runs `work` once it is ready, and gives it the peer's sum to check. */
async function withPeer<Result>(
  task: Omit<PeerTask, "directory">,
  work: (directory: string, task: PeerTask, sum: Promise<number>) => Promise<Result>,
): Promise<Result> {
  const directory = fs.mkdtempSync("/dev/shm/gapless-bench-");
  const whole = { ...task, directory };
  const peer = fork(path.join(import.meta.dirname, "bus-peer.ts"));
  try {
    peer.send(whole);
    await once(peer, "message");
    pinThread(ownCore);
    const sum = once(peer, "message").then(([value]) => value as number);
    return await work(directory, whole, sum);
  } finally {
    peer.kill();
    fs.rmSync(directory, { recursive: true });
  }
}

/** undefined where there is no C compiler: then there is no reference. */
function buildReference(): string | undefined {
  const binary = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "gapless-bench-")), "ring");
  try {
    execFileSync("cc", ["-O2", "-o", binary, path.join(import.meta.dirname, "reference/ring.c")]);
    return binary;
  } catch {
    console.error("No C compiler (cc): the figures have no reference.");
    return undefined;
  }
}

function runReference(binary: string, ...words: (string | number)[]): string {
  return execFileSync(binary, words.map(String), { encoding: "utf8", maxBuffer: 2 ** 30 });
}

function median(lines: string): number {
  const values = Float64Array.from(lines.trim().split("\n"), Number).sort();
  return values[values.length >>> 1] ?? 0;
}
