/** What a message that is read costs the collector of garbage: nothing. */
import path from "node:path";
import test from "node:test";
import { openPublisher } from "../../../src/queue/queue.ts";
import { assertNothingAllocated } from "../../support/hot-path.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const program = path.join(import.meta.dirname, "reading-hot-path.ts");
const messages = 300_000;

for (const call of ["poll", "peek"]) {
  for (const verify of ["verify", "trust"]) {
    test(`${call}, ${verify}: reading allocates nothing for a message`, async (t) => {
      const directory = makeFastDirectory(t);
      // One segment: opening one allocates what it is seen by.
      const publisher = openPublisher(directory, { segmentBytes: 2 ** 26, preallocate: false });
      for (let number = 1; number <= messages; number++) {
        publisher.append(1, payloadOf(number, 100));
      }
      await publisher.close();
      // A look at the clock takes some bytes now and then; a message would take at least 8.
      const passes = await assertNothingAllocated(program, [directory, call, verify], messages);
      t.diagnostic(passes.map(({ nsPerMessage }) => nsPerMessage.toFixed(0)).join(" "));
    });
  }
}
