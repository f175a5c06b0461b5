/** A reader in C, written from spec/segment.md alone, reads what the publisher writes. */
import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { openPublisher, type Publisher, type PublisherOptions } from "gapless/queue";
import { seededRandom } from "gapless/testing";
import { recordHeaderBytes, segmentFileName } from "../../../src/queue/layout.ts";
import { listSegments } from "../../../src/queue/segment.ts";
import { goldenSegments, payloadOf, restoreGolden } from "./golden.ts";
import { makeDirectory } from "../../support/queue-records.ts";

const skip = spawnSync("cc", ["--version"]).status === 0 ? false : "no C compiler (cc)";
const run = promisify(execFile);
const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const kinds = ["none", "fast", "crc32c"] as const;

/** Builds the peer in the directory, and returns its path. */
function buildPeer(directory: string): string {
  const binary = path.join(directory, "peer");
  const source = path.join(import.meta.dirname, "peer.c");
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary];
  const { status, stderr } = spawnSync("cc", [...flags, source], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return binary;
}

/** What the peer prints, line by line. */
async function ask(binary: string, ...words: (string | number)[]): Promise<string[]> {
  const { stdout } = await run(binary, words.map(String), {
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout.split("\n").slice(0, -1);
}

/** A record as the peer prints it. */
function lineOf(
  sequence: number,
  { type, timestampNs, epoch }: { type: number; timestampNs: bigint | string; epoch: number },
  payload: Uint8Array,
): string {
  const words = [sequence, type, timestampNs, epoch, payload.length, zlib.crc32(payload)];
  return words.join(" ");
}

/** Appends records of any size, and remembers what the peer has to print of them. */
class Author {
  readonly lines: string[] = [];
  private readonly random = seededRandom(seed);

  append(publisher: Publisher, bytesMax: number): void {
    const { random } = this;
    // Mostly small ones: it is their number that fills an index.
    const length = random.below(random.below(8) === 0 ? bytesMax : 64);
    const payload = Buffer.alloc(length);
    for (let at = 0; at < length; at++) payload[at] = random.below(256);
    const record = {
      type: random.below(2 ** 32),
      timestampNs: 1_700_000_000_000_000_000n + BigInt(random.below(1_000_000)),
      epoch: publisher.epoch,
    };
    const sequence = publisher.append(record.type, payload, record.timestampNs);
    this.lines.push(lineOf(sequence, record, payload));
  }
}

async function writeQueue(
  directory: string,
  author: Author,
  count: number,
  options: PublisherOptions,
): Promise<void> {
  await using publisher = openPublisher(directory, { preallocate: false, ...options });
  for (let number = 0; number < count; number++) author.append(publisher, 3000);
}

test("a reader in C reads the golden queue, its writer and its reader", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const binary = buildPeer(directory);
  restoreGolden(directory, true);
  const expected = goldenSegments
    .flatMap(({ records }) => records)
    .map((record) => lineOf(record.sequence, record, payloadOf(record)));
  assert.equal(expected.length, 8);
  assert.deepEqual(await ask(binary, "read", directory, 1, 0), expected);
  assert.deepEqual(await ask(binary, "read", directory, 4, 2), expected.slice(3, 5));
  assert.deepEqual(await ask(binary, "writer", directory), ["3 4242 1 3 360 8 7"]);
  const reader = path.join(directory, "readers/ledger.reader");
  assert.deepEqual(await ask(binary, "reader", reader), ["6 2 7"]);
  // What has no sum is not believed after a power loss.
  restoreGolden(directory);
  assert.deepEqual(await ask(binary, "read", directory, 1, 0), expected.slice(0, 7));
});

test(
  "a reader in C reads segments of every kind of sum, from any sequence on",
  { skip },
  async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const directory = makeDirectory(t);
    const binary = buildPeer(directory);
    const author = new Author();
    for (const [index, checksum] of [...kinds, ...kinds].entries()) {
      // A quarter of a megabyte has entries in its index; a page has none.
      const segmentBytes = index < kinds.length ? 256 * 1024 : 4096;
      await writeQueue(directory, author, 1000, { checksum, segmentBytes });
    }
    const { lines } = author;
    assert.ok(listSegments(directory).length > 20);
    assert.deepEqual(await ask(binary, "read", directory, 1, 0), lines);
    const random = seededRandom(seed);
    for (let time = 0; time < 20; time++) {
      const from = 1 + random.below(lines.length);
      const count = 1 + random.below(Math.min(50, lines.length - from + 1));
      const expected = lines.slice(from - 1, from - 1 + count);
      assert.deepEqual(await ask(binary, "read", directory, from, count), expected);
    }
  },
);

test(
  "a reader in C follows a queue while it is written, and through its rolls",
  { skip },
  async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const directory = makeDirectory(t);
    const binary = buildPeer(directory);
    const author = new Author();
    const count = 6000;
    let read: Promise<string[]> | undefined;
    for (const checksum of kinds) {
      await using publisher = openPublisher(directory, { segmentBytes: 16_384, checksum });
      for (let number = 0; number < count / kinds.length; number++) {
        author.append(publisher, 3000);
        read ??= ask(binary, "read", directory, 1, count);
        if (number % 16 === 0) await turn();
      }
    }
    assert.deepEqual(await read, author.lines);
    assert.ok(listSegments(directory).length > 50);
  },
);

test("a reader in C that sleeps is woken by the next record", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const binary = buildPeer(directory);
  const author = new Author();
  await using publisher = openPublisher(directory, { segmentBytes: 4096, preallocate: false });
  author.append(publisher, 1000);
  const rounds = 40;
  const peer = spawn(binary, ["read", directory, "1", String(rounds)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => peer.kill("SIGKILL"));
  const startedMs = performance.now();
  const printed: string[] = [];
  for await (const line of createInterface({ input: peer.stdout })) {
    printed.push(line);
    if (printed.length < rounds) author.append(publisher, 1000);
  }
  assert.deepEqual(printed, author.lines);
  // It looks by itself each second only.
  assert.ok(performance.now() - startedMs < (rounds / 2) * 1000);
  if (peer.exitCode === null) await once(peer, "exit");
  assert.equal(peer.exitCode, 0);
});

test("a reader in C tells a byte that is another one, wherever a sum is", { skip }, async (t) => {
  const author = new Author();
  for (const checksum of kinds) {
    const directory = makeDirectory(t);
    const binary = buildPeer(directory);
    await writeQueue(directory, author, 1, { checksum, segmentBytes: 4096 });
    {
      await using publisher = openPublisher(directory, { preallocate: false });
      publisher.append(1, Buffer.from("what the sum is for"));
    }
    const file = path.join(directory, segmentFileName(1));
    const bytes = fs.readFileSync(file);
    const at = bytes.indexOf("what the sum is for");
    for (const offset of [at, at + 18, at - 4, at - recordHeaderBytes + 16]) {
      const damaged = Buffer.from(bytes);
      damaged[offset] = (damaged[offset] ?? 0) ^ 0x10;
      fs.writeFileSync(file, damaged);
      const asked = ask(binary, "read", directory, 1, 0);
      if (checksum !== "none") await assert.rejects(asked, /peer: sum of a record/);
      else assert.equal((await asked).length, 2);
    }
  }
});
