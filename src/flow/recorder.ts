/**
 * The sidecar that keeps a channel's messages in journals: a consumer of its own, named `recorder`,
 * so that no producer waits for a disk as long as the ring has room.
 *
 *     const bus = openBus("exchange.toml", { service: recorderService });
 *     await recordChannel(bus, "orders", { signal });
 *
 *   ring ──poll──► append ──► flush ──► release
 *
 * What is released to the ring is durable. What is durable and was not released, because the
 * recorder died in between, comes again and is left out: each message is recorded once. A recorder
 * that is slow holds producers back when the ring is full, as any consumer does. What becomes of
 * one that is dead or silent is the channel's `failed_consumer`, and what it missed is recorded as
 * missing.
 */
import type { Bus, Loss, LossCause, SequenceRange, Subscriber } from "../bus/bus.ts";
import { systemClock, type Clock } from "../clock.ts";
import { isGaplessError } from "../errors.ts";
import type { Message } from "../message.ts";
import { openJournal, type Journal } from "./journal.ts";
import {
  decodeRecording,
  encodeRecording,
  recordingBytesMax,
  findRecorded,
  type MissingCause,
  type Recording,
  type RecordedChannel,
} from "./recording.ts";

export interface RecordOptions {
  /** Ends it; what was taken and is not durable yet comes again. */
  readonly signal: AbortSignal;
  /** Size of a segment of the journals: see `openJournal`. */
  readonly segmentBytes?: number;
  readonly clock?: Clock;
  /** Called with the number of messages each time that some have become durable. */
  readonly onRecorded?: (messages: number) => void;
}

const batchMax = 4096;
const batchBytesMax = 4 * 1024 * 1024;
const waitMs = 1000;
const encodedBytesFirst = 256 * 1024;

/**
 * Records a channel until its stream ends or the signal aborts.
 *
 * @param bus Opened for the service `recorderService`.
 * @throws GaplessError CONFIG_INVALID, ALREADY_OPEN, and what a journal throws:
 *   WRITER_ALREADY_ACTIVE, STORAGE_FULL, STORAGE_CORRUPT. Nothing is released that is not durable,
 *   so it can be started again.
 */
export async function recordChannel(bus: Bus, name: string, options: RecordOptions): Promise<void> {
  const recorded = findRecorded(bus, name);
  const { channel } = recorded;
  const ring = bus.identity(name);
  const tracks: Track[] = [];
  let loss: Loss | undefined;
  let withdrawn: SequenceRange | undefined;
  let subscriber: Subscriber | undefined;
  try {
    for (let priority = 0; priority < channel.priorities; priority++) {
      tracks.push(await openTrack(recorded, priority, ring, options));
    }
    subscriber = bus.subscriber(name, {
      onLoss: (found) => (loss = found),
      onWithdrawn: (range) => (withdrawn = range),
    });
    const { envelope } = subscriber;
    const limit = Math.max(1, Math.min(batchMax, batchBytesMax / channel.messageBytesMax)) | 0;

    const poll = (from: Subscriber): number => {
      try {
        return from.poll(({ bytes }, offset, length) => {
          const { sequence, producer, topic, sentNs } = envelope;
          tracks[envelope.priority]?.add({
            producer: channel.producers.indexOf(producer),
            sequence,
            topic,
            sentNs,
            bytes: bytes.subarray(offset, offset + length),
            loss: loss?.cause,
            withdrawn,
          });
          loss = undefined;
          withdrawn = undefined;
        }, limit);
      } catch (error) {
        if (!isGaplessError(error, "MESSAGES_LOST")) throw error;
        // The next one that comes shows what is missing.
        for (const track of tracks) track.forget();
        loss = undefined;
        withdrawn = undefined;
        return 0;
      }
    };

    while (!options.signal.aborted) {
      if (poll(subscriber) > 0) {
        const counts = await Promise.all(tracks.map((track) => track.keep()));
        subscriber.release();
        options.onRecorded?.(counts.reduce((sum, count) => sum + count, 0));
      } else {
        if (subscriber.ended) return;
        await subscriber.wait(waitMs, options.signal);
      }
    }
  } finally {
    subscriber?.close();
    await Promise.all(tracks.map((track) => track.close()));
  }
}

interface Taken {
  readonly producer: number;
  readonly sequence: number;
  readonly topic: string;
  readonly sentNs: number;
  readonly bytes: Uint8Array;
  /** What the ring said of the sequences before it. */
  readonly loss: LossCause | undefined;
  readonly withdrawn: SequenceRange | undefined;
}

async function openTrack(
  recorded: RecordedChannel,
  priority: number,
  ring: number,
  { segmentBytes, clock = systemClock }: RecordOptions,
): Promise<Track> {
  const directory = recorded.journalDirectory(priority);
  const journal = await openJournal({
    directory,
    ...(segmentBytes === undefined ? {} : { segmentBytes }),
  });
  try {
    const newest = journal.lastId === 0n ? undefined : (await journal.read(journal.lastId, 1))[0];
    return new Track(journal, ring, clock, newest);
  } catch (error) {
    await journal.close();
    throw error;
  }
}

/** What becomes of the messages of one level of priority. */
class Track {
  private readonly journal: Journal;
  private readonly ring: number;
  private readonly clock: Clock;
  private messages: Message[] = [];
  private encoded = new Uint8Array(encodedBytesFirst);
  private encodedView = new DataView(this.encoded.buffer);
  private encodedBytes = 0;
  private lastId: bigint;
  private lastNs: bigint;
  /** Of this ring, the newest sequence that is durable, and that was added; 0 before the first. */
  private durableSequence = 0;
  private lastSequence: number;

  constructor(journal: Journal, ring: number, clock: Clock, newest: Message | undefined) {
    this.journal = journal;
    this.ring = ring;
    this.clock = clock;
    this.lastId = journal.lastId;
    this.lastNs = newest?.timestampNs ?? 0n;
    const recording = newest === undefined ? undefined : decodeRecording(newest.bytes);
    if (recording?.ring === ring) this.durableSequence = recording.sequence;
    this.lastSequence = this.durableSequence;
  }

  add({ loss, withdrawn, ...taken }: Taken): void {
    const { lastSequence } = this;
    if (taken.sequence <= lastSequence) return;
    let missingBefore: MissingCause | undefined;
    if (loss !== undefined) missingBefore = loss === "skipped" ? loss : "overwritten";
    else if (withdrawn !== undefined && withdrawn.from <= lastSequence + 1)
      missingBefore = "withdrawn";
    else if (lastSequence > 0 && taken.sequence > lastSequence + 1) missingBefore = "overwritten";
    if (this.messages.length === 0) this.beginBatch();
    const bytes = this.encode({ ...taken, ring: this.ring, missingBefore });
    const id = this.lastId + 1n;
    this.messages.push({ id, prevId: this.lastId, timestampNs: this.lastNs, bytes });
    this.lastId = id;
    this.lastSequence = taken.sequence;
  }

  /** Messages of a batch are recorded at one time, and one behind the other in one memory. */
  private beginBatch(): void {
    const nowNs = this.clock.nowNs();
    // A clock that is set back does not take a replay's window with it.
    if (nowNs > this.lastNs) this.lastNs = nowNs;
    this.encodedBytes = 0;
  }

  private encode(recording: Recording): Uint8Array {
    const start = this.encodedBytes;
    const bytesMax = recordingBytesMax(recording);
    if (start + bytesMax > this.encoded.length) {
      // What is in the smaller one stays where it is until it is appended.
      this.encoded = new Uint8Array(Math.max(this.encoded.length * 2, bytesMax));
      this.encodedView = new DataView(this.encoded.buffer);
      this.encodedBytes = 0;
      return this.encode(recording);
    }
    this.encodedBytes = encodeRecording(recording, this.encoded, this.encodedView, start);
    return this.encoded.subarray(start, this.encodedBytes);
  }

  /** Makes durable what was added, and returns how many messages that were. */
  async keep(): Promise<number> {
    const count = this.messages.length;
    this.journal.append(this.messages);
    this.messages = [];
    await this.journal.flush();
    this.durableSequence = this.lastSequence;
    return count;
  }

  /** Forgets what was added since the last time. */
  forget(): void {
    this.messages = [];
    this.lastId = this.journal.lastId;
    this.lastSequence = this.durableSequence;
  }

  close(): Promise<void> {
    return this.journal.close();
  }
}
