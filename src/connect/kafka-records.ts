/**
 * From what a broker answers to the messages of a stream: the pure part of the Kafka source.
 *
 * A broker gives whole batches of records as they lie in its log. In front there may be records
 * that were read already; between those that count there may be markers of transactions, records
 * of transactions that were aborted, and offsets that nothing is at any more.
 */
import { describeError, GaplessError } from "../errors.ts";
import { unpackMessages, type Message } from "../message.ts";

/** A record as it lies in Kafka. Its bytes are valid until the next step of the iteration. */
export interface KafkaRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** Milliseconds since 1970: the producer's time or the broker's, as the topic is set up. */
  readonly timestampMs: bigint;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: readonly (readonly [Uint8Array | null, Uint8Array | null])[];
}

/** Of a batch, what its reader needs: see "Record Batch" in the documentation of Kafka. */
export interface RecordsBatch {
  readonly firstOffset: bigint;
  readonly lastOffsetDelta: number;
  readonly magic: number;
  readonly attributes: number;
  readonly firstTimestamp: bigint;
  readonly producerId: bigint;
  readonly records: readonly {
    readonly timestampDelta: bigint;
    readonly offsetDelta: number;
    readonly key: Uint8Array | null;
    readonly value: Uint8Array | null;
    readonly headers: readonly (readonly [Uint8Array | null, Uint8Array | null])[];
  }[];
}

/** A transaction that was aborted, and whose first record is at or before the end of the answer. */
export interface AbortedTransaction {
  readonly producerId: bigint;
  readonly firstOffset: bigint;
}

/** A partition of a topic, as messages name it. */
export interface KafkaPlace {
  readonly topic: string;
  readonly partition: number;
}

/** What a fetch came to: records that count, and where the next one begins. */
export interface KafkaRecords {
  readonly records: readonly KafkaRecord[];
  readonly nextOffset: bigint;
}

/** Messages with the offsets of their records; `fault` is of the record behind the last one. */
export interface DecodedRecords {
  readonly messages: Message[];
  readonly offsets: bigint[];
  readonly fault: GaplessError | undefined;
}

const currentMagic = 2;
const transactional = 1 << 4;
const control = 1 << 5;

/**
 * Takes the records at `fromOffset` and behind it, without those of aborted transactions.
 *
 * @throws GaplessError INPUT_MALFORMED for a batch of another format.
 */
export function readRecords(
  place: KafkaPlace,
  fromOffset: bigint,
  batches: readonly RecordsBatch[],
  aborted: readonly AbortedTransaction[],
): KafkaRecords {
  const records: KafkaRecord[] = [];
  let nextOffset = fromOffset;
  const isAborted = abortedBatches(aborted);
  for (const batch of batches) {
    if (batch.magic !== currentMagic) {
      const reason = `its batch has format ${batch.magic}, expected ${currentMagic}`;
      throw malformed(place, batch.firstOffset, new Error(reason));
    }
    const end = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n;
    if (end > nextOffset) nextOffset = end;
    if (isAborted(batch, end) || (batch.attributes & control) !== 0) continue;
    for (const record of batch.records) {
      const offset = batch.firstOffset + BigInt(record.offsetDelta);
      if (offset < fromOffset) continue;
      records.push({
        topic: place.topic,
        partition: place.partition,
        offset,
        timestampMs: batch.firstTimestamp + record.timestampDelta,
        key: record.key,
        value: record.value,
        headers: record.headers,
      });
    }
  }
  return { records, nextOffset };
}

/**
 * Returns what is to be asked of each batch in turn: is it of a transaction that was aborted?
 * From its first offset on everything of a producer's transactions is, until its marker comes.
 * As in Kafka's own client: `CompletedFetch.nextFetchedRecord`.
 */
function abortedBatches(
  aborted: readonly AbortedTransaction[],
): (batch: RecordsBatch, end: bigint) => boolean {
  const ahead = aborted.toSorted((one, other) => (one.firstOffset < other.firstOffset ? -1 : 1));
  const producers = new Set<bigint>();
  let next = 0;
  return (batch, end) => {
    for (let one = ahead[next]; one !== undefined && one.firstOffset < end; one = ahead[++next]) {
      producers.add(one.producerId);
    }
    if ((batch.attributes & transactional) === 0) return false;
    if ((batch.attributes & control) === 0) return producers.has(batch.producerId);
    if (isAbortMarker(batch)) producers.delete(batch.producerId);
    return false;
  };
}

/** The key of a marker: version and type, 16 bits each, big-endian; an abort has type 0. */
function isAbortMarker(batch: RecordsBatch): boolean {
  const key = batch.records[0]?.key;
  return key?.length === 4 && key[2] === 0 && key[3] === 0;
}

/** Decodes as far as it goes. */
export function decodeRecords(
  records: readonly KafkaRecord[],
  decode: (record: KafkaRecord) => Message,
): DecodedRecords {
  const messages: Message[] = [];
  const offsets: bigint[] = [];
  for (const record of records) {
    try {
      messages.push(decode(record));
    } catch (error) {
      return { messages, offsets, fault: malformed(record, record.offset, error) };
    }
    offsets.push(record.offset);
  }
  return { messages, offsets, fault: undefined };
}

/** The message that the value of a record is, as `packMessages` makes it. */
export function decodeMessage(record: KafkaRecord): Message {
  if (record.value === null) throw new Error("it has no value");
  const messages = unpackMessages(record.value);
  const [message] = messages;
  if (message === undefined || messages.length > 1) {
    throw new Error(`it has ${messages.length} messages, expected one`);
  }
  return message;
}

/** The error about a record, or a batch that begins with it. */
export function malformed(place: KafkaPlace, offset: bigint, cause: unknown): GaplessError {
  return new GaplessError(
    "INPUT_MALFORMED",
    `A record of Kafka does not decode: topic=${place.topic}, partition=${place.partition}, ` +
      `offset=${offset.toString()}: ${describeError(cause)}. Nothing behind it was delivered.`,
    { cause },
  );
}
