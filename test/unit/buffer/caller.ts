/** Reads from the peer at a socket, says what came, closes or stays idle, and has nothing to do. */
import { connectPeer } from "../../../src/buffer/buffer.ts";

const [socketPath = "", close] = process.argv.slice(2);
const peer = connectPeer({ address: `unix:${socketPath}`, flow: "trades" });
const messages = await peer.read(1n, 10);
process.stdout.write(`${messages.length}\n`);
if (close === "close") await peer[Symbol.asyncDispose]();
