/** A process that is a replica of the queue log in argv[2]: the buffer in argv[3], as argv[4]. */
import { openMsgBuffer, replicate } from "../../src/buffer/buffer.ts";
import { readQueueLog } from "../../src/flow/queue-log.ts";

const [, , directory = "", dbPath = "", name = ""] = process.argv;
const buffer = await openMsgBuffer({ component: name, storage: { dbPath } });
process.stdout.write("open\n");
await replicate(buffer, readQueueLog(directory, { replica: name }), {
  signal: new AbortController().signal,
  onRefused: () => undefined,
});
