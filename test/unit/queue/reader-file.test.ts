import assert from "node:assert/strict";
import fs from "node:fs";
import { crc32 } from "node:zlib";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { openControl } from "../../../src/queue/control.ts";
import { readerOffset, slotOffset } from "../../../src/queue/layout.ts";
import { openPublisher, openSubscriber } from "../../../src/queue/queue.ts";
import { lookAtReader, ReaderFile, readerFileOf } from "../../../src/queue/reader-file.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";

async function makeQueue(t: TestContext): Promise<{ directory: string; identity: bigint }> {
  const directory = makeFastDirectory(t);
  await openPublisher(directory, { segmentBytes: 4096, preallocate: false }).close();
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  return { directory, identity };
}

/** The order in which a commit stores; any of them can be the last that a killed process did. */
const stores = [
  { offset: slotOffset.sequence, bytes: 8 },
  { offset: slotOffset.epoch, bytes: 4 },
  { offset: slotOffset.generation, bytes: 4 },
  { offset: slotOffset.crc, bytes: 4 },
];

test("G3: a commit that is cut short at any store leaves the one before it, whole", async (t) => {
  const { directory, identity } = await makeQueue(t);
  const filePath = readerFileOf(directory, "ledger");
  const file = new ReaderFile(directory, "ledger", identity);
  const states: Buffer[] = [fs.readFileSync(filePath)];
  for (const sequence of [5, 9, 2 ** 40 + 1, 2 ** 40 + 2, 7]) {
    file.commit(sequence, 3);
    states.push(fs.readFileSync(filePath));
  }
  file.close();
  const committedIn = (content: Buffer): number | undefined => {
    fs.writeFileSync(filePath, content);
    return lookAtReader(directory, "ledger", identity).committed?.sequence;
  };
  assert.deepEqual(states.map(committedIn), [undefined, 5, 9, 2 ** 40 + 1, 2 ** 40 + 2, 7]);
  for (const [index, before] of states.entries()) {
    const after = states[index + 1];
    if (after === undefined) break;
    const torn = Buffer.from(before);
    const slot = readerOffset.slots + (index % 2) * readerOffset.slotBytes;
    for (const { offset, bytes } of stores) {
      assert.equal(committedIn(torn), committedIn(before), `${index}, before ${offset}`);
      after.copy(torn, slot + offset, slot + offset, slot + offset + bytes);
    }
    assert.equal(committedIn(torn), committedIn(after));
  }
});

test("two slots that say nothing are damage, and not a new reader", async (t) => {
  const { directory, identity } = await makeQueue(t);
  const filePath = readerFileOf(directory, "ledger");
  const file = new ReaderFile(directory, "ledger", identity);
  for (const sequence of [1, 2]) file.commit(sequence, 1);
  file.close();
  const content = fs.readFileSync(filePath);
  const isDamaged = (error: unknown): boolean => isGaplessError(error, "STORAGE_CORRUPT");
  for (const byte of [0, 1]) {
    const at = readerOffset.slots + slotOffset.crc + byte * readerOffset.slotBytes;
    content.writeUInt8(content.readUInt8(at) ^ 1, at);
    fs.writeFileSync(filePath, content);
    if (byte === 0)
      assert.equal(lookAtReader(directory, "ledger", identity).committed?.sequence, 2);
  }
  assert.throws(() => lookAtReader(directory, "ledger", identity), isDamaged);
  assert.throws(() => openSubscriber(directory, "ledger"), isDamaged);
  fs.writeFileSync(filePath, content.subarray(0, 100));
  assert.throws(() => openSubscriber(directory, "ledger"), isDamaged);
  // What was refused is held by nobody.
  fs.rmSync(filePath);
  await openSubscriber(directory, "ledger").close();
});

test("the file of a reader of another queue is refused", async (t) => {
  const { directory } = await makeQueue(t);
  const other = await makeQueue(t);
  await openSubscriber(directory, "ledger").close();
  fs.cpSync(`${directory}/readers`, `${other.directory}/readers`, { recursive: true });
  assert.throws(
    () => openSubscriber(other.directory, "ledger"),
    (error) => isGaplessError(error, "STORAGE_CORRUPT") && /another queue/.test(error.message),
  );
});

test("the count of commits may wrap", async (t) => {
  const { directory, identity } = await makeQueue(t);
  const filePath = readerFileOf(directory, "ledger");
  const file = new ReaderFile(directory, "ledger", identity);
  file.commit(1, 1);
  file.close();
  // As after 2^32 - 2 commits.
  const content = fs.readFileSync(filePath);
  const { slots } = readerOffset;
  content.writeUInt32LE(0xffff_fffe, slots + slotOffset.generation);
  content.writeUInt32LE(
    crc32(content.subarray(slots, slots + slotOffset.crc)),
    slots + slotOffset.crc,
  );
  fs.writeFileSync(filePath, content);
  for (let sequence = 2; sequence <= 8; sequence++) {
    const again = new ReaderFile(directory, "ledger", identity);
    assert.equal(again.committed?.sequence, sequence - 1);
    again.commit(sequence, 1);
    again.close();
  }
});
