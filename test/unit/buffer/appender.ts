/**
 * Appends batches of ten to the buffer in the folder named first, two at a time, and prints the
 * id through which they are acknowledged. Named a number as well, it kills itself when that many
 * commits are durable and nobody knows of them yet.
 */
import { subscribe } from "node:diagnostics_channel";
import { stepChannelName } from "../../../src/steps.ts";
import { makeMessages, openIn } from "./fixture.ts";

const [directory = "", killAtCommit] = process.argv.slice(2);
let commits = 0;
subscribe(stepChannelName, (step) => {
  if (step === "buffer.durable" && ++commits === Number(killAtCommit)) {
    process.kill(process.pid, "SIGKILL");
  }
});

const buffer = await openIn(directory);
let lastId = buffer.lastId;
while (true) {
  const batches = [makeMessages(lastId, 10, 400), makeMessages(lastId + 10n, 10, 400)];
  await Promise.all(batches.map((batch) => buffer.append(batch)));
  lastId += 20n;
  process.stdout.write(`${lastId}\n`);
}
