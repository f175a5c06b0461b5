/** A way to a NATS server that loses, or repeats, some of what the server sends to its client. */
import { once } from "node:events";
import net from "node:net";

/** What becomes of a frame, by the sequence in the stream that it is about. */
export type Fate = "pass" | "lose" | "repeat";

/** Of the deliveries of a consumer, and of the answers to who has published. */
export interface Fates {
  readonly delivery?: (sequence: number) => Fate;
  readonly answer?: (sequence: number) => Fate;
}

export interface LossyWay extends AsyncDisposable {
  readonly server: string;
}

const pass = (): Fate => "pass";
const lineEnd = Buffer.from("\r\n");

/** Listens on a free port of the loopback interface, and passes on to `server`, a `host:port`. */
export async function lossyWayTo(
  server: string,
  { delivery = pass, answer = pass }: Fates,
): Promise<LossyWay> {
  const [host = "", port = ""] = server.split(":");
  const sockets = new Set<net.Socket>();
  const listener = net.createServer((client) => {
    const upstream = net.connect(Number(port), host);
    let rest: Buffer = Buffer.alloc(0);
    upstream.on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      for (let size = frameBytes(rest); size > 0; size = frameBytes(rest)) {
        const frame = rest.subarray(0, size);
        const delivered = deliveredIn(frame);
        const answered = delivered === undefined ? answeredIn(frame) : undefined;
        const fate =
          delivered !== undefined
            ? delivery(delivered)
            : answered !== undefined
              ? answer(answered)
              : "pass";
        if (fate !== "lose") client.write(frame);
        if (fate === "repeat") client.write(frame);
        rest = rest.subarray(size);
      }
    });
    client.pipe(upstream);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => undefined);
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  await once(listener.listen(0, "127.0.0.1"), "listening");
  return {
    server: `127.0.0.1:${(listener.address() as net.AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const socket of sockets) socket.destroy();
      await once(listener, "close");
    },
  };
}

/** Of the first frame that the server has sent, with its payload; 0 where it is not whole. */
function frameBytes(bytes: Buffer): number {
  const end = bytes.indexOf(lineEnd);
  if (end < 0) return 0;
  const words = bytes.toString("latin1", 0, end).split(" ");
  const hasPayload = words[0] === "MSG" || words[0] === "HMSG";
  const size = end + 2 + (hasPayload ? Number(words.at(-1)) + 2 : 0);
  return size <= bytes.length ? size : 0;
}

/** In the stream, for what a consumer delivers: `$JS.ACK.stream.consumer.count.SEQUENCE.…`. */
function deliveredIn(frame: Buffer): number | undefined {
  const line = frame.toString("latin1", 0, frame.indexOf(lineEnd));
  const found = /^H?MSG .* \$JS\.ACK\.[^.]+\.[^.]+\.\d+\.(\d+)\./.exec(line);
  return found === null ? undefined : Number(found[1]);
}

/** In the stream, for what was published: `{"stream":"NAME", "seq":SEQUENCE}`. */
function answeredIn(frame: Buffer): number | undefined {
  const found = /\{"stream":"[^"]*",\s*(?:"domain":"[^"]*",\s*)?"seq":(\d+)/.exec(
    frame.toString("latin1"),
  );
  return found === null ? undefined : Number(found[1]);
}
