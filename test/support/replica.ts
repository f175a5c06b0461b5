/**
 * A process that is a replica of the queue log in argv[2], kept in the file argv[3], reading as
 * argv[4], until it is killed. argv[5]: at which of its steps it kills itself; 0: at none.
 * Positions that it was told are refused go to the file argv[3].refused, a line each.
 */
import fs from "node:fs";
import { replicate } from "../../src/buffer/replicate.ts";
import { readQueueLog } from "../../src/flow/queue-log.ts";
import { FileReplica } from "./file-replica.ts";

const [, , directory = "", filePath = "", name = "", dieAt = "0"] = process.argv;
let steps = 0;

const onStep = (): void => {
  if (++steps === Number(dieAt)) process.kill(process.pid, "SIGKILL");
};

using replica = new FileReplica(filePath, onStep);
await replicate(replica, readQueueLog(directory, { replica: name }), {
  signal: new AbortController().signal,
  onRefused: ({ position }) => {
    fs.appendFileSync(`${filePath}.refused`, `${position}\n`);
    onStep();
  },
  onProgress: onStep,
});
