import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { isGaplessError } from "../../../src/errors.ts";
import {
  lossesFileName,
  readLosses,
  recordLoss,
  type QueueLoss,
} from "../../../src/queue/loss-ledger.ts";
import { makeDirectory } from "../../support/queue-records.ts";

const run = promisify(execFile);

function lossOf(from: number, changes: Partial<QueueLoss> = {}): QueueLoss {
  return { cause: "damaged", reader: "ledger", from, to: from + 2, atMs: 1000 + from, ...changes };
}

test("losses are read as they were recorded, in order", (t) => {
  const directory = makeDirectory(t);
  assert.deepEqual(readLosses(directory), { losses: [], unreadable: 0 });
  const losses = [
    lossOf(1),
    lossOf(7, { cause: "deleted", reader: "audit" }),
    lossOf(3, { cause: "rewound" }),
    lossOf(3, { cause: "passed-over", to: Number.MAX_SAFE_INTEGER }),
  ];
  for (const loss of losses) recordLoss(directory, loss);
  assert.deepEqual(readLosses(directory), { losses, unreadable: 0 });
});

test("what is found out again is recorded once; a queue can be rewound twice", (t) => {
  const directory = makeDirectory(t);
  for (const cause of ["damaged", "deleted", "passed-over", "rewound"] as const) {
    for (let time = 0; time < 3; time++) recordLoss(directory, lossOf(5, { cause, atMs: time }));
  }
  recordLoss(directory, lossOf(5, { reader: "another" }));
  const found = readLosses(directory).losses.map(({ cause, reader }) => `${cause} ${reader}`);
  assert.deepEqual(found, [
    "damaged ledger",
    "deleted ledger",
    "passed-over ledger",
    ...Array<string>(3).fill("rewound ledger"),
    "damaged another",
  ]);
});

test("a line that a crash cut short costs none of the others", (t) => {
  const directory = makeDirectory(t);
  const filePath = path.join(directory, lossesFileName);
  recordLoss(directory, lossOf(1));
  const whole = fs.readFileSync(filePath);
  recordLoss(directory, lossOf(10));
  const both = fs.readFileSync(filePath);
  for (let length = whole.length; length <= both.length; length++) {
    fs.writeFileSync(filePath, both.subarray(0, length));
    recordLoss(directory, lossOf(20));
    const { losses, unreadable } = readLosses(directory);
    // Without its last byte, the end of the line, it says all it has to say.
    const isWhole = length >= both.length - 1;
    const expected = isWhole ? [1, 10, 20] : [1, 20];
    assert.deepEqual(
      losses.map(({ from }) => from),
      expected,
      `${length}`,
    );
    assert.equal(unreadable, isWhole || length === whole.length ? 0 : 1, `${length}`);
  }
});

test("lines that are no losses are counted", (t) => {
  const directory = makeDirectory(t);
  recordLoss(directory, lossOf(1));
  const lines = [
    "null",
    "[]",
    "7",
    "{}",
    "\u0000\u0000\u0000",
    JSON.stringify(lossOf(1, { to: 1.5 })),
    JSON.stringify({ ...lossOf(1), cause: "stolen" }),
    JSON.stringify({ ...lossOf(1), reader: 5 }),
  ];
  fs.appendFileSync(path.join(directory, lossesFileName), `${lines.join("\n")}\n`);
  assert.deepEqual(readLosses(directory), { losses: [lossOf(1)], unreadable: lines.length });
});

test("readers in several processes record at once, each line whole", async (t) => {
  const directory = makeDirectory(t);
  const each = 40;
  const program = `
    import { recordLoss } from ${JSON.stringify(path.resolve("src/queue/loss-ledger.ts"))};
    const reader = process.argv.at(-1);
    for (let from = 1; from <= ${each}; from++) {
      const loss = { cause: "deleted", reader, from, to: from, atMs: 0 };
      recordLoss(${JSON.stringify(directory)}, loss);
    }`;
  const options = ["--conditions=source", "--input-type=module", "--eval", program];
  const names = ["a", "b", "c"];
  await Promise.all(names.map((name) => run(process.execPath, [...options, name])));
  const { losses, unreadable } = readLosses(directory);
  assert.equal(unreadable, 0);
  for (const name of names) {
    const found = losses.filter(({ reader }) => reader === name).map(({ from }) => from);
    assert.deepEqual(
      found,
      Array.from({ length: each }, (_, index) => index + 1),
    );
  }
});

test("a ledger that cannot be written is told of, and nothing is skipped", (t) => {
  const directory = makeDirectory(t);
  fs.mkdirSync(path.join(directory, lossesFileName));
  assert.throws(
    () => recordLoss(directory, lossOf(1)),
    (error) => isGaplessError(error, "SYSTEM_CALL_FAILED"),
  );
});
