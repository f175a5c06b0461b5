/**
 * Opens the buffer in the folder named first, appends, and leaves it open; or prints the code of
 * why it does not open.
 */
import { openBuffer } from "../../../src/buffer/buffer.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { makeMessages } from "./fixture.ts";

const [directory = ""] = process.argv.slice(2);
try {
  const buffer = await openBuffer({ directory });
  await buffer.append(makeMessages(buffer.lastId, 10));
  await buffer.read(1n, 10);
  // Nothing under way: the open buffer is no reason to stay.
} catch (error) {
  process.stdout.write(`${isGaplessError(error) ? error.code : "bug"}\n`);
}
