/** Opens the buffer in the folder named first, appends, and leaves it open. */
import { openBuffer } from "../../../src/buffer/buffer.ts";
import { makeMessages } from "./fixture.ts";

const [directory = ""] = process.argv.slice(2);
const buffer = await openBuffer({ directory });
await buffer.append(makeMessages(buffer.lastId, 10));
await buffer.read(1n, 10);
// Nothing under way: the open buffer is no reason to stay.
