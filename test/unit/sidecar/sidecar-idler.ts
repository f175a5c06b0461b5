/** Leaves a sidecar open that has answered, and has nothing more to do: argv[2] says how. */
import { startSidecar } from "../../../src/sidecar/sidecar.ts";
import type { Echo, Task } from "./sidecar-worker.ts";

const module = new URL("./sidecar-worker.ts", import.meta.url);
const sidecar = startSidecar<Task, Echo>(module, undefined, {
  name: "test",
  requestsMax: 4,
  onReply({ number }) {
    console.log(`reply ${number}`);
    if (process.argv[2] === "exit") process.exit();
  },
});
sidecar.post({ kind: "echo", number: 1 });
// The sidecar keeps nobody: without this the process would not stay for the reply.
const kept = setInterval(() => {
  if (sidecar.pending === 0) clearInterval(kept);
}, 5);
