import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { packChunks, unpackChunk } from "../../../src/buffer/chunk.ts";
import { openColdRows, type ColdRows } from "../../../src/buffer/cold-rocksdb.ts";
import { isGaplessError } from "../../../src/errors.ts";
import {
  coldIn,
  hasCode,
  makeMessages,
  nextLine,
  openIn,
  runProgram,
  temporaryDirectory,
} from "./fixture.ts";

const messages = makeMessages(0n, 2000);

/** A closed buffer with rows in a table file and in the write-ahead log. */
async function makeBuffer(directory: string): Promise<void> {
  // RocksDB turns the log into a table when it opens.
  for (const half of [messages.slice(0, 1000), messages.slice(1000)]) {
    const rows = await openColdRows(coldIn(directory));
    for (let at = 0; at < half.length; at += 100) {
      await rows.commit(packChunks(half.slice(at, at + 100)));
    }
    await rows.close();
  }
}

/** The largest of RocksDB's files whose name matches. */
function findFile(directory: string, name: RegExp): string {
  const rocks = path.join(directory, "rocksdb");
  const found = fs
    .readdirSync(rocks)
    .filter((entry) => name.test(entry))
    .map((entry) => path.join(rocks, entry))
    .sort((left, right) => fs.statSync(right).size - fs.statSync(left).size);
  assert.ok(found[0] !== undefined, `no file ${name.source}`);
  return found[0];
}

function flip(file: string, at: number): void {
  const bytes = fs.readFileSync(file);
  const index = Math.floor(bytes.length * at);
  bytes[index] = (bytes[index] ?? 0) ^ 0x55;
  fs.writeFileSync(file, bytes);
}

const isTable = /\.sst$/;
const isLog = /\.log$/;
const isManifest = /^MANIFEST/;
const isCurrent = /^CURRENT$/;

/** Damage that is found when the buffer opens. */
const damages: Record<string, (directory: string) => void> = {
  "CURRENT is garbage": (d) => fs.writeFileSync(findFile(d, isCurrent), "garbage"),
  "CURRENT is empty": (d) => fs.truncateSync(findFile(d, isCurrent)),
  "CURRENT is missing": (d) => fs.rmSync(findFile(d, isCurrent)),
  "the manifest is garbage": (d) => fs.writeFileSync(findFile(d, isManifest), "x".repeat(500)),
  "the manifest is cut off": (d) => fs.truncateSync(findFile(d, isManifest), 60),
  "the manifest is missing": (d) => fs.rmSync(findFile(d, isManifest)),
  "a table's end is flipped": (d) => flip(findFile(d, isTable), 0.9999),
  "a table is cut off": (d) => fs.truncateSync(findFile(d, isTable), 5000),
  "a table is missing": (d) => fs.rmSync(findFile(d, isTable)),
  "the log is flipped in its middle": (d) => flip(findFile(d, isLog), 0.5),
  "the log is cut off": (d) => fs.truncateSync(findFile(d, isLog), 50_000),
  "the log is missing": (d) => fs.rmSync(findFile(d, isLog)),
  "the mark is garbage": (d) => fs.writeFileSync(path.join(d, "mark"), "x".repeat(32)),
  "the mark is flipped": (d) => flip(path.join(d, "mark"), 0.3),
  "the mark is missing": (d) => fs.rmSync(path.join(d, "mark")),
  "all of RocksDB is missing": (d) => fs.rmSync(path.join(d, "rocksdb"), { recursive: true }),
};

/** What the worker runs, without the thread around it, which takes most of the time to start. */
async function openRows(directory: string): Promise<AsyncDisposable & Pick<ColdRows, "read">> {
  const rows = await openColdRows(coldIn(directory));
  return {
    read: (fromId, limit) => rows.read(fromId, limit),
    [Symbol.asyncDispose]: () => rows.close(),
  };
}

function isCorruptIn(directory: string): (error: unknown) => boolean {
  return (error) =>
    isGaplessError(error, "STORAGE_CORRUPT") &&
    error.message.includes(directory) &&
    error.message.includes("Move the directory away");
}

test("G7: a damaged directory is STORAGE_CORRUPT, never a shorter stream", async (context) => {
  const pristine = path.join(temporaryDirectory(context), "pristine");
  await makeBuffer(pristine);
  for (const [what, damage] of Object.entries(damages)) {
    const directory = path.join(temporaryDirectory(context), "damaged");
    fs.cpSync(pristine, directory, { recursive: true });
    damage(directory);
    // The second time as well: opening repaired nothing and forgot nothing.
    await assert.rejects(openRows(directory), isCorruptIn(directory), what);
    await assert.rejects(openRows(directory), isCorruptIn(directory), `${what}, second time`);
  }
});

test("G7: damage crosses the threads with its code, at opening and at reading", async (context) => {
  const directory = temporaryDirectory(context);
  await makeBuffer(directory);
  flip(findFile(directory, isTable), 0.01);
  {
    await using buffer = await openIn(directory, { capacity: 0 });
    await assert.rejects(buffer.archive.read(1n, 10), isCorruptIn(directory));
    assert.equal((await buffer.archive.read(1900n, 10))[0].id, 1900n);
  }
  fs.writeFileSync(findFile(directory, isCurrent), "");
  await assert.rejects(openIn(directory), isCorruptIn(directory));
});

test("G7: a row that is no chunk is damage, to who reads it and to who compares it", async (context) => {
  const directory = temporaryDirectory(context);
  await makeBuffer(directory);
  const rows = await openColdRows(coldIn(directory));
  const { lastId } = rows.opened;
  const bytes = new Uint8Array(200).fill(7);
  bytes.set([1, 0, 0, 0, 0, 0, 0, 0]);
  await rows.commit([{ prevId: lastId, lastId: lastId + 1n, bytes }]);
  await rows.close();
  await using buffer = await openIn(directory, { capacity: 0 });
  await assert.rejects(buffer.sync(lastId + 1n, 1), isCorruptIn(directory));
  await assert.rejects(buffer.archive.digest(lastId + 1n, lastId + 1n), isCorruptIn(directory));
});

test("G7: a flipped table gives STORAGE_CORRUPT or the right messages", async (context) => {
  const pristine = path.join(temporaryDirectory(context), "pristine");
  await makeBuffer(pristine);
  let corrupted = 0;
  for (let eighth = 0; eighth < 8; eighth++) {
    const directory = path.join(temporaryDirectory(context), "flipped");
    fs.cpSync(pristine, directory, { recursive: true });
    flip(findFile(directory, isTable), eighth / 8);
    try {
      await using rows = await openRows(directory);
      for (let at = 0; at < messages.length; at += 50) {
        const found = rows
          .read(BigInt(at + 1), 50)
          .flatMap((row) => unpackChunk(new Uint8Array(row)));
        const begin = found.findIndex(({ id }) => id === BigInt(at + 1));
        assert.deepEqual(found.slice(begin), messages.slice(at, at + found.length - begin));
      }
    } catch (error) {
      if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
      corrupted++;
    }
  }
  assert.ok(corrupted > 0, "no flip was ever met");
});

test("a buffer whose creation was cut short is created", async (context) => {
  const directory = temporaryDirectory(context);
  await (await openColdRows(coldIn(directory))).close();
  // As if killed before the mark was there, and then before CURRENT was.
  fs.rmSync(path.join(directory, "mark"));
  await (await openColdRows(coldIn(directory))).close();
  fs.rmSync(path.join(directory, "mark"));
  for (const name of [isCurrent, isLog]) fs.rmSync(findFile(directory, name));
  await using buffer = await openIn(directory);
  await buffer.append(messages);
});

test("a directory that is a file, or below one, is CONFIG_INVALID", async (context) => {
  const file = path.join(temporaryDirectory(context), "file");
  fs.writeFileSync(file, "");
  await assert.rejects(openIn(file), hasCode("CONFIG_INVALID"));
  await assert.rejects(openIn(path.join(file, "x")), hasCode("CONFIG_INVALID"));
  // A file system that takes no directories says that one is missing, for ever.
  await assert.rejects(openIn("/proc/nope/x"), hasCode("SYSTEM_CALL_FAILED"));
});

test("a buffer open elsewhere is ALREADY_OPEN, in this process or another, which is named", async (context) => {
  const directory = temporaryDirectory(context);
  const isOpenIn = (who: string, pid: number | undefined) => (error: Error) => {
    const advice = "Close it there, or stop that process.";
    const where = `is open already in ${who} process: pid=${pid}. ${advice}`;
    assert.equal(error.message, `The buffer in ${directory} ${where}`);
    return hasCode("ALREADY_OPEN")(error);
  };
  {
    await using buffer = await openIn(directory);
    await assert.rejects(openIn(directory), isOpenIn("this", process.pid));
    await buffer.append(messages.slice(0, 20));
  }
  const program = runProgram(context, "appender.ts", directory);
  await nextLine(program);
  await assert.rejects(openIn(directory), isOpenIn("another", program.child.pid));
  program.child.kill("SIGKILL");
  await program.exited;
  await using buffer = await openIn(directory);
  assert.ok(buffer.lastId >= 40n);
});
