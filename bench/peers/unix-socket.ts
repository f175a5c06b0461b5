/**
 * A Unix socket of node:net. A frame is the length of the payload, four bytes, and the payload. The
 * frames between two flushes are one write, writes that wait go out together, and a full socket is
 * waited for.
 */
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import type { Address, Link, Taker, Way } from "./way.ts";

const lengthBytes = 4;
const chunkBytes = 2 ** 18;
/** Many batches: with the default of 64 KB, each batch of 1 KB messages would be waited for. */
const highWaterMark = 2 ** 20;

export const unixSocket: Way = {
  async listen(address, taker) {
    let link: Link | undefined;
    const server = net.createServer((socket) => {
      server.close();
      link = frame(socket, taker);
    });
    server.listen(socketPathOf(address));
    await once(server, "listening");
    return {
      send: (payload) => link?.send(payload),
      flush: async () => link?.flush(),
      [Symbol.asyncDispose]: async () => link?.[Symbol.asyncDispose](),
    };
  },

  async dial(address, taker) {
    const options = { path: socketPathOf(address), writableHighWaterMark: highWaterMark };
    const socket = net.connect(options);
    await once(socket, "connect");
    return frame(socket, taker);
  },
};

function socketPathOf({ directory }: Address): string {
  return path.join(directory, "unix-socket");
}

function frame(socket: net.Socket, taker: Taker): Link {
  readFrames(socket, taker);
  let chunk = Buffer.allocUnsafe(chunkBytes);
  let start = 0;
  let end = 0;

  async function flush(): Promise<void> {
    const isRoom = socket.write(chunk.subarray(start, end));
    start = end;
    if (!isRoom) await once(socket, "drain");
  }

  return {
    flush,
    send(payload) {
      if (end + lengthBytes + payload.length > chunk.length) {
        if (end > start) socket.write(chunk.subarray(start, end));
        // What is written belongs to the socket until it is sent: the next chunk is another.
        chunk = Buffer.allocUnsafe(chunkBytes);
        start = end = 0;
      }
      chunk.writeUInt32LE(payload.length, end);
      chunk.set(payload, end + lengthBytes);
      end += lengthBytes + payload.length;
    },
    async [Symbol.asyncDispose]() {
      socket.destroy();
    },
  };
}

function readFrames(socket: net.Socket, taker: Taker): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    const data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    let start = 0;
    while (start + lengthBytes <= data.length) {
      const end = start + lengthBytes + view.getUint32(start, true);
      if (end > data.length) break;
      taker(view, start + lengthBytes, end - start - lengthBytes);
      start = end;
    }
    rest = data.subarray(start);
  });
}
