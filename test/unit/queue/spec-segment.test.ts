/** Holds the code to spec/segment.md, and to golden files that other code made. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { openPublisher, openSubscriber } from "gapless/queue";
import {
  createControl,
  openControl,
  readPosition,
  writerOf,
  type Control,
} from "../../../src/queue/control.ts";
import {
  controlBytes,
  controlMagic,
  controlOffset,
  formatVersion,
  headerOffset,
  indexEntryBytes,
  indexOffset,
  indexStrideBytes,
  payloadBytesMaxOf,
  positionSalt,
  readerBytes,
  readerMagic,
  readerOffset,
  recordHeaderBytes,
  recordOffset,
  recordsStartOf,
  segmentBytesMax,
  segmentBytesMin,
  segmentFileName,
  segmentHeaderBytes,
  segmentMagic,
  segmentOffset,
  slotOffset,
} from "../../../src/queue/layout.ts";
import { lookAtReader, ReaderFile, readersFolder } from "../../../src/queue/reader-file.ts";
import { Cursor, recordWord } from "../../../src/queue/record.ts";
import {
  indexedOf,
  listSegments,
  openSegment,
  readBeginning,
  readEnding,
  writeSegmentHeader,
  type Segment,
} from "../../../src/queue/segment.ts";
import { placeBefore } from "../../../src/queue/sparse-index.ts";
import {
  describedIn,
  goldenBytes,
  goldenSegments,
  payloadOf,
  restoreGolden,
  type GoldenRecord,
  type GoldenSegment,
} from "./golden.ts";
import { makeDirectory } from "../../support/queue-records.ts";

const page = fs.readFileSync(path.join(import.meta.dirname, "../../../spec/segment.md"), "utf8");
const identity = BigInt(goldenSegments[0]?.identity ?? 0);

/** Offset in bytes of each name in the tables of the section that begins with `heading`. */
function offsetsIn(heading: string): [string, number][] {
  const [, section = ""] = page.split(`\n${heading}\n`);
  const [text = ""] = section.split(/^##/m);
  const rows = text.matchAll(/^\| (\d+) \| [^|]+ \| `(\w+)` \|/gm);
  return [...rows].map(([, offset, name = ""]) => [name, Number(offset)]);
}

test("the offsets of the specification are those of the code", () => {
  const { checksum, number, bytes, recordsStart, ...lines } = segmentOffset;
  const lineFrom = (from: number): Record<string, number> =>
    Object.fromEntries(
      Object.entries(lines).filter(([, offset]) => offset >= from && offset < from + 64),
    );
  const { slotBytes, ...reader } = readerOffset;
  for (const [heading, offsets] of [
    ["## First line", headerOffset],
    ["### Line 0: what it is", { checksum, number, bytes, recordsStart }],
    ["### Line 1: its beginning", lineFrom(64)],
    ["### Line 2: its end", lineFrom(128)],
    ["### Line 3: what moves", lineFrom(192)],
    ["### Index", indexOffset],
    ["## Record", recordOffset],
    ["## Control file", controlOffset],
    ["## Reader's file", reader],
    ["### Slot", slotOffset],
  ] as const) {
    assert.deepEqual(offsetsIn(heading).sort(), Object.entries(offsets).sort(), heading);
  }
  for (const said of [
    `# The queue, version ${formatVersion}`,
    `| \`version\` | ${formatVersion} |`,
    `\`${controlMagic}\` of the control file, \`${segmentMagic}\` of a segment, \`${readerMagic}\``,
    `${segmentBytesMin} bytes to 2^${Math.log2(segmentBytesMax)}, a multiple of`,
    `256 + 24·⌈\`bytes\` / ${indexStrideBytes}⌉, rounded up to 64`,
    `From ${segmentHeaderBytes} on, ${indexEntryBytes} bytes an entry`,
    `| ${recordHeaderBytes} | \`length\` − ${recordHeaderBytes} |`,
    `\`bytes\` − \`recordsStart\` − ${recordHeaderBytes} bytes`,
    `0x${positionSalt.toString(16).toUpperCase()}`,
    `two slots of ${slotBytes} bytes`,
    `## Control file\n${controlBytes} bytes.`,
    `## Reader's file\n${readerBytes} bytes.`,
  ]) {
    assert.ok(page.includes(said), said);
  }
  for (const size of [4096, 65536, 69632, 128 * 2 ** 20, 2 ** 30]) {
    const start = Math.ceil((256 + 24 * Math.ceil(size / 65536)) / 64) * 64;
    assert.equal(recordsStartOf(size), start);
    assert.equal(payloadBytesMaxOf(size), size - start - 32);
  }
});

function openGolden(context: TestContext): { directory: string; control: Control } {
  const directory = makeDirectory(context);
  restoreGolden(directory);
  const control = openControl(directory, "read");
  context.after(() => control.mapping.unmap());
  return { directory, control };
}

/** The same as the JSON beside it, by the code. */
function describe(segment: Segment): GoldenSegment {
  const { number, capacity, checksum, recordsStart, view } = segment;
  const beginning = readBeginning(segment);
  const ending = readEnding(segment);
  const records = beginning === undefined ? undefined : walk(segment, beginning.firstSequence);
  const index = Array.from({ length: indexedOf(segment) }, (_entry, entry) => {
    const at = segmentHeaderBytes + entry * indexEntryBytes;
    return {
      record: view.getUint32(at + indexOffset.record, true),
      count: view.getUint32(at + indexOffset.count, true),
      latestNs: String(view.getBigUint64(at + indexOffset.latestNs, true)),
    };
  });
  return {
    bytes: capacity,
    identity: String(identity),
    number,
    checksum,
    recordsStart,
    beginning:
      beginning === undefined ? null : { ...beginning, latestNs: String(beginning.latestNs) },
    ending: ending === undefined ? null : { ...ending, latestNs: String(ending.latestNs) },
    durable: view.getUint32(segmentOffset.durable, true),
    index,
    records: records?.found ?? [],
    ...(records === undefined ? {} : { end: records.end }),
  };
}

/** Every record, each of which has to hold by its sum. */
function walk(segment: Segment, first: number): { found: GoldenRecord[]; end: number } {
  const cursor = new Cursor(segment, segment.recordsStart, first, 0);
  const found: GoldenRecord[] = [];
  while (cursor.look(true) === "record") {
    const { offset, length, sequence } = cursor;
    const payload = Buffer.from(segment.bytes.slice(offset + recordHeaderBytes, offset + length));
    const shown = payload.toString("hex").replace(/(00)+$/, "");
    found.push({
      offset,
      sum: segment.view.getUint32(offset + recordOffset.sum, true),
      sequence,
      timestampNs: String(segment.view.getBigUint64(offset + recordOffset.timestamp, true)),
      type: (segment.words[offset / 4 + recordWord.type] ?? 0) >>> 0,
      epoch: segment.words[offset / 4 + recordWord.epoch] ?? 0,
      payloadBytes: payload.length,
      payload: shown,
    });
    cursor.advance();
  }
  return { found, end: cursor.offset };
}

for (const golden of goldenSegments) {
  const name = segmentFileName(golden.number);

  test(`the golden ${name} is read as what is written beside it`, (t) => {
    const { directory, control } = openGolden(t);
    const segment = openSegment(directory, golden.number, control.identity, "read");
    t.after(() => segment.mapping.unmap());
    assert.deepEqual(describe(segment), golden);
    const beginning = readBeginning(segment);
    for (const { record, count } of beginning === undefined ? [] : golden.index) {
      const sequence = (beginning?.firstSequence ?? 0) + count;
      assert.equal(beginning && placeBefore(segment, beginning, sequence).offset, record);
    }
  });
}

test("the golden queue.control is read as what is written beside it", (t) => {
  const { control } = openGolden(t);
  const { words, doubles } = control;
  const { pid, startTicks, bootId: boot } = writerOf(control);
  const word = (offset: number): number | undefined => words[offset / 4];
  assert.deepEqual(
    {
      bytes: control.mapping.buffer.byteLength,
      identity: String(control.identity),
      epoch: word(controlOffset.epoch),
      heartbeat: word(controlOffset.heartbeat),
      pid,
      open: word(controlOffset.open),
      startTicks,
      boot,
      position: readPosition(control),
      asleep: word(controlOffset.asleep),
      wakes: word(controlOffset.wakes),
      durable: doubles[controlOffset.durable / 8],
    },
    describedIn("queue.control"),
  );
});

test("the golden ledger.reader is read as what is written beside it", (t) => {
  const { directory } = openGolden(t);
  const { slots, ...golden } = describedIn("ledger.reader");
  const filePath = path.join(directory, readersFolder, "ledger.reader");
  const view = new DataView(new Uint8Array(fs.readFileSync(filePath)).buffer);
  const found = [0, 1].map((slot) => {
    const at = readerOffset.slots + slot * readerOffset.slotBytes;
    return {
      sequence: view.getFloat64(at + slotOffset.sequence, true),
      epoch: view.getUint32(at + slotOffset.epoch, true),
      generation: view.getUint32(at + slotOffset.generation, true),
    };
  });
  assert.deepEqual(found, slots);
  const { name, committed, ...seen } = lookAtReader(directory, "ledger", identity);
  assert.equal(name, "ledger");
  assert.equal(committed?.sequence, golden["committed"]);
  for (const key of ["taken", "seenMs", "passedOver"] as const)
    assert.equal(seen[key], golden[key]);
});

for (const [what, isOfThisBoot, sequences] of [
  ["a kill", true, [7, 8]],
  ["a power loss", false, [7]],
] as const) {
  test(`the golden reader goes on behind what it has committed, after ${what}`, async (t) => {
    const directory = makeDirectory(t);
    restoreGolden(directory, isOfThisBoot);
    await using subscriber = openSubscriber(directory, "ledger");
    const read: number[] = [];
    for (let message = subscriber.next(); message !== undefined; message = subscriber.next()) {
      const { sequence, timestampNs, ...rest } = message;
      const golden = goldenSegments
        .flatMap(({ records }) => records)
        .find((record) => record.sequence === sequence);
      assert.ok(golden !== undefined);
      assert.equal(timestampNs, BigInt(golden.timestampNs));
      const { type, epoch } = golden;
      assert.deepEqual(rest, { type, epoch, payload: new Uint8Array(payloadOf(golden)) });
      read.push(sequence);
    }
    assert.deepEqual(read, sequences);
  });
}

/** Without what depends on who has written it and when, and without what was left unfinished. */
function comparable(bytes: Uint8Array, end: number): Uint8Array {
  return bytes
    .slice()
    .fill(0, segmentOffset.durable, segmentOffset.durable + 4)
    .fill(0, end);
}

test("three writers, one after the other, write the golden segments byte for byte", async (t) => {
  const directory = makeDirectory(t);
  createControl(directory, identity);
  const records = goldenSegments.flatMap((golden) => golden.records);
  for (const golden of goldenSegments.filter(({ beginning }) => beginning !== null)) {
    const { bytes: segmentBytes, checksum } = golden;
    await using publisher = openPublisher(directory, {
      segmentBytes,
      checksum,
      preallocate: false,
    });
    for (const record of records.filter(({ epoch }) => epoch === publisher.epoch)) {
      const { type, timestampNs, sequence } = record;
      const appended = publisher.append(type, payloadOf(record), BigInt(timestampNs));
      assert.equal(appended, sequence);
    }
  }
  assert.deepEqual(listSegments(directory), [1, 2, 3]);
  for (const { number, bytes, ending } of goldenSegments.slice(0, 3)) {
    const name = segmentFileName(number);
    const written = fs.readFileSync(path.join(directory, name));
    const end = ending === null ? (goldenSegments[2]?.end ?? 0) : bytes;
    assert.deepEqual(comparable(written, end), comparable(goldenBytes(name), end), name);
  }
  const [written, golden] = [
    fs.readFileSync(path.join(directory, "queue.control")),
    goldenBytes("queue.control"),
  ];
  for (const [from, to] of [
    [0, controlOffset.epoch + 4],
    [controlOffset.segment, controlOffset.positionCheck + 4],
  ] as const) {
    assert.deepEqual(written.subarray(from, to), golden.subarray(from, to));
  }
});

test("eight commits of a reader write the golden slots", (t) => {
  const directory = makeDirectory(t);
  const reader = new ReaderFile(directory, "ledger", identity);
  for (const sequence of [0, 0, 1, 2, 3, 4, 5, 6]) reader.commit(sequence, 2);
  reader.close();
  const written = fs.readFileSync(path.join(directory, readersFolder, "ledger.reader"));
  const golden = goldenBytes("ledger.reader");
  assert.deepEqual(written.subarray(0, readerOffset.pid), golden.subarray(0, readerOffset.pid));
});

test("a segment that is reserved is the golden one", () => {
  const [golden] = goldenSegments.slice(-1);
  assert.ok(golden !== undefined);
  const { bytes, checksum, number } = golden;
  const made = new ArrayBuffer(bytes);
  writeSegmentHeader(made, number, { identity, bytes, checksum });
  assert.deepEqual(Buffer.from(made), goldenBytes(segmentFileName(number)));
});

test("the record that the page shows is the golden one", () => {
  const [, hex = ""] = /```\n([0-9a-f \n]+)```/.exec(page) ?? [];
  const shown = Buffer.from(hex.replaceAll(/\s/g, ""), "hex");
  const [golden] = goldenSegments;
  assert.ok(golden !== undefined && shown.length === 40);
  const bytes = goldenBytes(segmentFileName(golden.number));
  const { recordsStart } = golden;
  assert.deepEqual(bytes.subarray(recordsStart, recordsStart + shown.length), shown);
});
