import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import {
  adoptMapping,
  createMappedFile,
  mapFile,
  mapFileToRead,
  reserve,
} from "../../../src/memory/mapping.ts";
import { syncDirectory } from "../../../src/memory/sync-files.ts";
import { rounds, tornWord, winsWord } from "./racing-words.ts";
import { mountTinyDisk, tinyDiskRefused } from "../../support/tiny-disk.ts";

const mebibyte = 1024 * 1024;

function makeDirectory(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-mapping-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function withCode(code: ErrorCode, text = ""): (error: unknown) => boolean {
  return (error) => isGaplessError(error, code) && error.message.includes(text);
}

function program(name: string): string {
  return path.join(import.meta.dirname, name);
}

test("what one process writes, another sees, and the other way round", (context) => {
  const filePath = path.join(makeDirectory(context), "shared");
  createMappedFile(filePath, 8, () => undefined, { durable: false });
  const mapping = mapFile(filePath, 8);
  const words = new Int32Array(mapping.buffer);
  Atomics.store(words, 0, 41);
  const peer = spawnSync(process.execPath, [program("mapping-peer.ts"), filePath]);
  assert.equal(peer.status, 0, peer.stderr.toString());
  assert.equal(Atomics.load(words, 1), 42);
  mapping.unmap();
});

test("a file is created whole: filled, and with room for all of it", (context) => {
  const directory = makeDirectory(context);
  const filePath = path.join(directory, "whole");
  const created = createMappedFile(
    filePath,
    mebibyte,
    (buffer) => {
      assert.deepEqual(
        fs.readdirSync(directory).filter((name) => name === "whole"),
        [],
      );
      new Uint8Array(buffer)[mebibyte - 1] = 7;
    },
    { durable: true },
  );
  assert.ok(created);
  assert.deepEqual(fs.readdirSync(directory), ["whole"]);
  const { size, blocks } = fs.statSync(filePath);
  assert.equal(size, mebibyte);
  assert.ok(blocks * 512 >= mebibyte, `blocks=${blocks}`);
  assert.equal(fs.readFileSync(filePath).at(-1), 7);
});

test("a file that exists is left alone", (context) => {
  const filePath = path.join(makeDirectory(context), "taken");
  fs.writeFileSync(filePath, "mine");
  assert.equal(
    createMappedFile(filePath, 4096, () => undefined, { durable: false }),
    false,
  );
  assert.equal(fs.readFileSync(filePath, "utf8"), "mine");
  assert.deepEqual(fs.readdirSync(path.dirname(filePath)), ["taken"]);
});

test("a creator that fails leaves nothing behind", (context) => {
  const directory = makeDirectory(context);
  const fail = (): never => {
    throw new Error("cannot fill it");
  };
  assert.throws(
    () => createMappedFile(path.join(directory, "file"), 4096, fail, { durable: false }),
    /cannot fill it/,
  );
  assert.deepEqual(fs.readdirSync(directory), []);
});

test("of racing creators one wins, and nobody sees a file half-made", async (context) => {
  const directory = makeDirectory(context);
  const wordsPath = path.join(directory, "words");
  createMappedFile(wordsPath, 4 * (rounds + 2), () => undefined, { durable: false });
  const words = new Int32Array(mapFile(wordsPath, 4).buffer);
  const racers = ["1", "2"].map((threads) => {
    const args = [program("racing-creator.ts"), directory, "3", threads];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
    context.after(() => child.kill("SIGKILL"));
    return once(child, "close");
  });
  for (const [status] of await Promise.all(racers)) assert.equal(status, 0);
  for (let round = 0; round < rounds; round++) {
    assert.equal(Atomics.load(words, winsWord + round), 1, `round=${round}`);
  }
  assert.equal(Atomics.load(words, tornWord), 0);
  const left = fs.readdirSync(directory).filter((name) => name.endsWith(".tmp"));
  assert.deepEqual(left, []);
});

test("a file that is cut off is refused before anybody reads past its end", (context) => {
  const filePath = path.join(makeDirectory(context), "short");
  fs.writeFileSync(filePath, new Uint8Array(4095));
  assert.throws(() => mapFile(filePath, 4096), withCode("STORAGE_CORRUPT", "bytes=4095"));
  assert.equal(mapFile(filePath, 4095).buffer.byteLength, 4095);
});

test("stale views are empty once the memory is given back", (context) => {
  const filePath = path.join(makeDirectory(context), "stale");
  createMappedFile(filePath, 4096, () => undefined, { durable: false });
  const mapping = mapFile(filePath, 4096);
  const bytes = new Uint8Array(mapping.buffer);
  const part = bytes.subarray(10, 20);
  const view = new DataView(mapping.buffer);
  bytes[10] = 1;
  mapping.unmap();
  mapping.unmap();
  assert.equal(bytes.length, 0);
  assert.equal(part.length, 0);
  assert.equal(bytes[10], undefined);
  bytes[10] = 2;
  assert.throws(() => view.getUint8(0), TypeError);
  assert.equal(mapping.buffer.byteLength, 0);
  assert.equal(fs.readFileSync(filePath)[10], 1);
});

test("a file in a place comes where another one has been, into the same view", (context) => {
  const directory = makeDirectory(context);
  const bytes = 3 * mebibyte;
  const options = { durable: false, inPlace: true };
  const [first = "", second = ""] = ["first", "second"].map((name) => path.join(directory, name));
  for (const [index, filePath] of [first, second].entries()) {
    const fill = (buffer: ArrayBuffer): unknown => new Uint8Array(buffer).fill(index + 1);
    assert.ok(createMappedFile(filePath, bytes, fill, options));
  }
  const one = mapFile(first, bytes, options);
  const stale = new Uint8Array(one.buffer);
  assert.equal(stale[bytes - 1], 1);
  assert.ok(one.isMapped);
  one.unmap();
  one.unmap();
  assert.ok(!one.isMapped);

  assert.equal(stale[bytes - 1], 0);
  stale[0] = 3;
  assert.equal(fs.readFileSync(first)[0], 1);

  const other = mapFileToRead(second, bytes, options);
  assert.equal(other.buffer, one.buffer);
  assert.deepEqual([stale[0], stale[bytes - 1]], [2, 2]);
  const third = mapFile(first, bytes, options);
  assert.notEqual(third.buffer, one.buffer);
  third.unmap();
  other.unmap();
});

test("memory that another thread takes over and gives back is a place for either", (context) => {
  const filePath = path.join(makeDirectory(context), "passed");
  const bytes = 5 * mebibyte;
  const options = { durable: false, inPlace: true };
  createMappedFile(filePath, bytes, () => undefined, options);
  const made = mapFile(filePath, bytes, options);
  const memory = made.handOver();
  assert.ok(memory !== undefined && !made.isMapped);
  const adopted = adoptMapping(memory, filePath);
  assert.equal(adopted.buffer, made.buffer);
  new Uint8Array(adopted.buffer)[7] = 7;
  assert.equal(fs.readFileSync(filePath)[7], 7);
  adopted.unmap();
  const again = mapFile(filePath, bytes, options);
  assert.equal(again.address, memory.address);
  again.unmap();
});

test("any range is made durable, wherever its pages begin", async (context) => {
  const filePath = path.join(makeDirectory(context), "synced");
  createMappedFile(filePath, 10_000, () => undefined, { durable: false });
  const mapping = mapFile(filePath, 10_000);
  for (const [offset, length] of [
    [0, 10_000],
    [4095, 2],
    [4096, 1],
    [9999, 1],
    [5000, 0],
  ] as const) {
    await mapping.sync(offset, length);
    mapping.syncBlocking(offset, length);
  }
  await assert.rejects(mapping.sync(0, 1024 * mebibyte), withCode("SYSTEM_CALL_FAILED", "msync"));
  assert.throws(
    () => mapping.syncBlocking(0, 1024 * mebibyte),
    withCode("SYSTEM_CALL_FAILED", "errno="),
  );
  syncDirectory(path.dirname(filePath));
  mapping.unmap();
});

test(
  "a disk without room is an error at creation, with nothing left behind, and no crash later",
  { skip: tinyDiskRefused },
  (context) => {
    const directory = mountTinyDisk(context, mebibyte);
    const filePath = path.join(directory, "large");
    let filled = false;
    const fill = (): void => void (filled = true);
    assert.throws(
      () => createMappedFile(filePath, 2 * mebibyte, fill, { durable: false }),
      withCode("STORAGE_FULL", "bytes=2097152"),
    );
    assert.equal(filled, false);
    assert.deepEqual(fs.readdirSync(directory), []);
    assert.ok(createMappedFile(filePath, mebibyte / 2, fill, { durable: false }));
  },
);

test(
  "a file with holes is filled up before it is mapped, or refused where there is no room",
  { skip: tinyDiskRefused },
  (context) => {
    const directory = mountTinyDisk(context, mebibyte);
    const filePath = path.join(directory, "holes");
    fs.writeFileSync(filePath, "");
    fs.truncateSync(filePath, 2 * mebibyte);
    assert.throws(() => mapFile(filePath, 4096), withCode("STORAGE_FULL"));
    fs.truncateSync(filePath, mebibyte / 2);
    const mapping = mapFile(filePath, 4096);
    assert.ok(fs.statSync(filePath).blocks * 512 >= mebibyte / 2);
    new Uint8Array(mapping.buffer).fill(1);
    mapping.unmap();
  },
);

test(
  "room reserved in an open file is there when another takes the rest of the disk",
  { skip: tinyDiskRefused },
  (context) => {
    const directory = mountTinyDisk(context, mebibyte);
    const fd = fs.openSync(path.join(directory, "reserved"), "w+");
    reserve(fd, mebibyte / 2, "reserved");
    assert.throws(
      () => fs.writeFileSync(path.join(directory, "greedy"), new Uint8Array(mebibyte)),
      /ENOSPC/,
    );
    assert.equal(fs.writeSync(fd, new Uint8Array(mebibyte / 2)), mebibyte / 2);
    fs.closeSync(fd);
  },
);

test("a file mapped to read shows what others write, and a store into it kills its process", (context) => {
  const filePath = path.join(makeDirectory(context), "shared");
  createMappedFile(filePath, 8192, () => undefined, { durable: false });
  const writable = mapFile(filePath, 0);
  const readable = mapFileToRead(filePath, 0);
  new Uint8Array(writable.buffer)[5000] = 7;
  assert.equal(new Uint8Array(readable.buffer)[5000], 7);
  writable.unmap();
  readable.unmap();
  const source = JSON.stringify(path.join(import.meta.dirname, "../../../src/memory/mapping.ts"));
  const store = `
    const { mapFileToRead } = await import(${source});
    new Uint8Array(mapFileToRead(process.argv[1], 0).buffer)[0] = 1;`;
  const args = ["--conditions=source", "--input-type=module", "-e", store, filePath];
  assert.equal(spawnSync(process.execPath, args).signal, "SIGSEGV");
  assert.equal(fs.readFileSync(filePath)[0], 0);
});
