/** Reads a million messages of many sources, again and again: see hot-path.ts. */
import type { FanInHandler } from "../../../src/queue/confluence.ts";
import type { FanInEnvelope, FanInSource } from "../../../src/queue/fan-in-source.ts";
import { openFanIn } from "../../../src/queue/fan-in.ts";
import { printPasses } from "../../support/hot-path.ts";

const [, , sourcesText = "", burstText = ""] = process.argv;
const sourceCount = Number(sourcesText);
const burst = Number(burstText);
const rounds = 1_000_000;

class Envelope implements FanInEnvelope {
  sequence = 0;
  readonly type = 1;
  readonly epoch = 1;
  timestampHigh = 400_000_000;
  timestampLow = 0;

  get timestampNs(): bigint {
    return (BigInt(this.timestampHigh) << 32n) | BigInt(this.timestampLow);
  }
}

/** Never empty, and next after a number of messages that nobody can foresee. */
class EndlessSource implements FanInSource {
  readonly envelope = new Envelope();
  readonly memory = openMemory;
  readonly offset = 0;
  readonly length = 8;
  readonly lag = 1;
  readonly sleep = { words: openMemory.words, index: 0, address: 0n, expected: 0 };
  private random: number;
  private left = 0;
  private isPeeked = false;

  constructor(seed: number) {
    this.random = seed;
  }

  peek(): boolean {
    if (this.isPeeked) return true;
    this.isPeeked = true;
    const { envelope } = this;
    envelope.sequence++;
    let step = 1;
    if (--this.left < 0) {
      this.left = burst - 1;
      this.random = (Math.imul(this.random, 1_103_515_245) + 12_345) & 0x7fff_ffff;
      step = (this.random >>> 16) % (burst * 1000);
    }
    envelope.timestampLow += step;
    if (envelope.timestampLow >= 2 ** 32) {
      envelope.timestampLow -= 2 ** 32;
      envelope.timestampHigh++;
    }
    return true;
  }

  take(): void {
    this.isPeeked = false;
  }

  commitThrough(): void {
    this.left += 0;
  }

  prepareToSleep(): boolean {
    return false;
  }
}

const buffer = new ArrayBuffer(64);
const openMemory = {
  bytes: new Uint8Array(buffer),
  view: new DataView(buffer),
  words: new Int32Array(buffer),
};
const fanIn = openFanIn();
for (let index = 0; index < sourceCount; index++) {
  fanIn.add(new EndlessSource(index + 1), `source-${index}`);
}
const sum = new Float64Array(2);
const add: FanInHandler = (source, { words }, offset, length) => {
  sum[0] = (sum[0] ?? 0) + (words[offset >>> 2] ?? 0) + length + source.length;
  sum[1] = fanIn.envelope.timestampLow;
};

function run(): void {
  for (let round = 0; round < rounds; round += 1000) {
    if (fanIn.poll(add, 1000) !== 1000) throw new Error("a source that never ends is empty");
    fanIn.commit();
  }
}

run();
await printPasses(5, rounds, run);
if (!(Number(sum[0]) > 0)) throw new Error("nothing was read");
