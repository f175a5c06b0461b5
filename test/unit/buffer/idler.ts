/**
 * Opens the buffer in the folder named first, appends, and leaves it open; or prints the code of
 * why it does not open.
 */
import { isGaplessError } from "../../../src/errors.ts";
import { makeMessages, openIn } from "./fixture.ts";

const [directory = ""] = process.argv.slice(2);
try {
  const buffer = await openIn(directory);
  await buffer.append(makeMessages(buffer.lastId, 10));
  await buffer.archive.read(1n, 10);
  // Nothing under way: the open buffer is no reason to stay.
} catch (error) {
  process.stdout.write(`${isGaplessError(error) ? error.code : "bug"}\n`);
}
