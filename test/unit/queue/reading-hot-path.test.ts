import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { openPublisher } from "../../../src/queue/queue.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";
import type { Pass } from "./reading-hot-path.ts";

const program = path.join(import.meta.dirname, "reading-hot-path.ts");
const messages = 300_000;
const run = promisify(execFile);

for (const call of ["poll", "peek"]) {
  for (const verify of ["verify", "trust"]) {
    test(`${call}, ${verify}: reading allocates nothing for a message`, async (t) => {
      const directory = makeFastDirectory(t);
      // One segment: opening one allocates what it is seen by.
      const publisher = openPublisher(directory, { segmentBytes: 2 ** 26, preallocate: false });
      for (let number = 1; number <= messages; number++)
        publisher.append(1, payloadOf(number, 100));
      await publisher.close();
      const values = ["--conditions=source", program, directory, call, verify];
      const { stdout } = await run(process.execPath, values);
      const passes = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Pass);
      // Compiling and measuring take some bytes in some passes, and so does a look at the clock now
      // and then; a message would take at least 8 in all of them.
      assert.ok(
        passes.some(({ grownBytes, collections }) => grownBytes < messages && collections === 0),
        stdout,
      );
      t.diagnostic(passes.map(({ nsPerMessage }) => nsPerMessage.toFixed(0)).join(" "));
    });
  }
}
