/** Queues for whoever reads: made beforehand, and not measured. */
import { openPublisher, type Publisher } from "gapless/queue";
import { fillPayload, makePayload, type, type Kind } from "./payload.ts";

export interface Filling {
  readonly directory: string;
  readonly payloadBytes: number;
  readonly messages: number;
  readonly checksum: Kind;
  /** The time of the first message, in nanoseconds since 1970, and how far the next ones are. */
  readonly firstNs: number;
  readonly intervalNs: number;
}

/** Writes a queue, and closes it. */
export async function fillQueue(filling: Filling): Promise<void> {
  const publisher = writeQueue(filling);
  await publisher.close();
}

/** Writes a queue, and leaves it to whoever kills this process. */
export function abandonQueue(filling: Filling): void {
  writeQueue(filling);
}

function writeQueue(filling: Filling): Publisher {
  const { directory, payloadBytes, messages, checksum, firstNs, intervalNs } = filling;
  const publisher = openPublisher(directory, { checksum });
  const payload = makePayload(payloadBytes);
  for (let message = 0; message < messages; message++) {
    fillPayload(payload, message);
    publisher.append(type, payload.bytes, BigInt(firstNs + message * intervalNs));
  }
  return publisher;
}
