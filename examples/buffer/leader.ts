/**
 * npm run example examples/buffer/leader.ts east|west [DIRECTORY]
 *
 * Keeps a market's trades, and serves them to the other leader. Kill it, and start it again: what
 * it missed comes from the other one, and then it goes on live. Ctrl-C ends it.
 */
import {
  connectPeer,
  openMsgBuffer,
  recoverLeader,
  serveBuffers,
  startRetention,
} from "gapless/buffer";
import { busSource } from "gapless/flow";
import { defaultDirectory, openChannels, socketOf } from "./place.ts";

const [, , name = "east", directory = defaultDirectory] = process.argv;
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
process.once("SIGTERM", () => stop.abort());

await using buffer = await openMsgBuffer({
  component: "trades",
  storage: { dbPath: directory, cfName: name },
});
await using _retention = startRetention(buffer, { count: 1_000_000 });
await using _server = await serveBuffers({
  flows: [buffer.archive],
  listen: { path: socketOf(directory, name) },
});
await using peer = connectPeer({
  address: `unix:${socketOf(directory, name === "east" ? "west" : "east")}`,
  flow: "trades",
});
using bus = openChannels(directory, name);
const report = setInterval(() => console.log(`${name}: ${buffer.lastId} trades`), 1000);
try {
  console.log(`${name}: has ${buffer.lastId} trades`);
  await recoverLeader({
    buffer,
    live: busSource(bus.subscriber("trades")),
    peers: [peer],
    signal: stop.signal,
    onRecovered: ({ position, filled }) =>
      console.log(`${name}: live at ${position}, ${filled} from the other one`),
  });
} finally {
  clearInterval(report);
}
