/** Serves 5,000 messages from the folder at the socket, says so, and stays until stdin ends. */
import { polledArchive, serveBuffers } from "../../../src/buffer/buffer.ts";
import { makeMessages, openIn } from "./fixture.ts";

const [directory = "", socketPath = ""] = process.argv.slice(2);
const buffer = await openIn(directory);
if (buffer.lastId === 0n) await buffer.append(makeMessages(0n, 5000));
const server = await serveBuffers({
  flows: [polledArchive(buffer.archive, { component: "trades" })],
  listen: { path: socketPath },
});
process.stdout.write("ready\n");
process.stdin.resume();
process.stdin.on("end", () => {
  void server[Symbol.asyncDispose]().then(() => buffer.close());
});
