/**
 * A replicated log on one machine: a queue whose records are commands.
 *
 *   await using log = await openQueueLog("/var/lib/exchange/commands", { replica: "engine" });
 *   await log.propose({ kind: "append", messages });       // on the device when this resolves
 *   await replicate(buffer, log, { signal });
 *
 * The process that proposes has it open; replicas in others read it with `readQueueLog`. The
 * position of a command is its sequence in the queue. Each replica is a reader of the queue by its
 * own name, so that retention waits for it; where it goes on is what its buffer says.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isGaplessError } from "../errors.ts";
import { openPublisher, openSubscriber, type Publisher, type Subscriber } from "../queue/queue.ts";
import {
  anotherLog,
  encodeCommand,
  kindNumber,
  logTrimmed,
  readCommand,
  type LogCommand,
  type LogEntry,
  type LogReader,
  type ReplicatedLog,
} from "./replicated-log.ts";

/** Who reads a log. */
export interface QueueLogReaderOptions {
  /** Name of the replica as a reader of the queue: one process at a time reads as it. */
  readonly replica: string;
}

export interface QueueLogOptions extends QueueLogReaderOptions {
  /** Size of a segment file in bytes, 4 KiB to 1 GiB: bounds the size of a command. 64 MiB. */
  readonly segmentBytes?: number;
}

const segmentBytesDefault = 64 * 1024 * 1024;
/** A queue that is not there yet is looked for so often. */
const lookAgainMs = 50;

/**
 * Opens the log in a directory, and makes it where there is none. One process at a time has it.
 * A command that does not fit into a segment is PAYLOAD_TOO_LARGE; other failures of `propose` are
 * those of `Publisher.publish`.
 *
 * @throws GaplessError as `openPublisher`; SYSTEM_CALL_FAILED where the device fails
 */
export async function openQueueLog(
  directory: string,
  options: QueueLogOptions,
): Promise<ReplicatedLog> {
  const { replica, segmentBytes = segmentBytesDefault } = options;
  const publisher = openPublisher(directory, { segmentBytes, durability: "sync" });
  try {
    // What one that was killed has proposed and not made durable is in the log all the same.
    await publisher.flush();
  } catch (error) {
    // What went wrong first is what is told.
    await publisher.close().catch(() => undefined);
    throw error;
  }
  return new QueueLog(publisher, replica);
}

/**
 * The reading end of a log that another process has open, or will: it waits for a queue that is not
 * there yet. What `read` throws besides is what `openSubscriber` and `Subscriber.poll` throw.
 */
export function readQueueLog(directory: string, options: QueueLogReaderOptions): LogReader {
  const { replica } = options;
  return {
    isDense: true,
    read: (afterPosition, signal) => readEntries(directory, replica, afterPosition, signal),
  };
}

class QueueLog implements ReplicatedLog {
  readonly isDense = true;

  private readonly publisher: Publisher;
  private readonly replica: string;

  constructor(publisher: Publisher, replica: string) {
    this.publisher = publisher;
    this.replica = replica;
  }

  async propose(command: LogCommand): Promise<bigint> {
    // It is in the queue before this first waits, so calls keep their order.
    const receipt = await this.publisher.publish(kindNumber(command), encodeCommand(command));
    return BigInt(receipt.sequence);
  }

  read(afterPosition: bigint, signal: AbortSignal): AsyncIterable<readonly LogEntry[]> {
    return readEntries(this.publisher.directory, this.replica, afterPosition, signal);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.publisher.close();
  }
}

async function* readEntries(
  directory: string,
  replica: string,
  afterPosition: bigint,
  signal: AbortSignal,
): AsyncGenerator<readonly LogEntry[], void, void> {
  await using subscriber = await openWhenThere(directory, replica, signal);
  if (subscriber === undefined) return;
  goBehind(subscriber, afterPosition);
  for await (const batch of subscriber.batches(signal)) {
    // Copied out: whoever appends them may keep views of the messages.
    yield batch.map(({ sequence, payload }) => ({
      position: BigInt(sequence),
      command: readCommand(payload.slice()),
    }));
    subscriber.commit();
  }
}

/** undefined where the signal aborts before there is a queue. */
async function openWhenThere(
  directory: string,
  replica: string,
  signal: AbortSignal,
): Promise<Subscriber | undefined> {
  while (!signal.aborted) {
    try {
      // Where it really begins, its buffer says. What could be lost in a power loss no replica may
      // be given: it would know more than the log afterwards.
      return openSubscriber(directory, replica, { start: "earliest", through: "durable" });
    } catch (error) {
      if (!isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) throw error;
      // An abort ends the pause; the loop looks at the signal.
      await sleep(lookAgainMs, undefined, { signal }).catch(() => undefined);
    }
  }
  return undefined;
}

function goBehind(subscriber: Subscriber, afterPosition: bigint): void {
  const where = `The queue in ${subscriber.directory}`;
  const next = Number(afterPosition) + 1;
  try {
    subscriber.seekSequence(next);
  } catch (error) {
    if (!isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) throw error;
    const newest = BigInt(subscriber.position + subscriber.lag - 1);
    throw anotherLog(where, afterPosition, newest);
  }
  const oldest = subscriber.position;
  if (oldest > next) throw logTrimmed(where, afterPosition, BigInt(oldest));
}
