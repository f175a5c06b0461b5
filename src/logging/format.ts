/**
 * Makes lines of JSON of records, from bytes to bytes: no text and no object is made on the way,
 * because the sidecar has to keep up with threads that do as little as they can.
 *
 *     {"time":"2026-11-21T12:28:43.123456Z","level":"info","name":"orders","text":"rolled over",
 *      "fields":{"segment":12}}   in one line
 *
 * Integers of 64 bits are texts, because readers of JSON round them; so are infinities and NaN.
 */
import { assert } from "../errors.ts";
import { fieldKind, fieldOffset, logLevels, recordOffset, type LogRingMemory } from "./layout.ts";

const firstCapacity = 64 * 1024;
/** A byte becomes \u00XX at worst; a field and a line add less than this to what they hold. */
const bytesPerByteMax = 6;
const bytesPerFieldMax = 40;
const bytesPerLineMax = 256;

const firstPrintable = 0x20;
const character = { newline: 0x0a, quote: 0x22, comma: 0x2c, zero: 0x30, backslash: 0x5c } as const;
const hexDigits = Buffer.from("0123456789abcdef");

const timeStart = Buffer.from('{"time":"');
const levelStarts = logLevels.map((level) => Buffer.from(`Z","level":"${level}","name":"`));
const textStart = Buffer.from('","text":"');
const fieldsStart = Buffer.from('","fields":{');
const valueStart = Buffer.from('":');
const escapeStart = Buffer.from("\\u00");
/** What the lines about the logging itself are called. */
const ownName = "gapless/logging";

export class LogFormat {
  /** Lines, each with its newline, up to `length`. */
  bytes = Buffer.allocUnsafeSlow(firstCapacity);
  length = 0;
  /** What is added to nanoseconds since boot to get those since 1970. */
  originNs = 0;
  private second = NaN;
  private readonly secondBytes = Buffer.alloc("2026-11-21T12:28:43.".length);

  clear(): void {
    this.length = 0;
  }

  /** Appends the line of the record that begins at `at`. */
  appendRecord({ bytes, view }: LogRingMemory, start: number): void {
    const length = view.getInt32(start + recordOffset.length, true);
    const fields = view.getUint16(start + recordOffset.fields, true);
    this.reserve(length * bytesPerByteMax + fields * bytesPerFieldMax + bytesPerLineMax);
    this.putTime(view.getFloat64(start + recordOffset.time, true));
    this.putLevel(view.getUint8(start + recordOffset.level));
    const nameAt = start + recordOffset.name;
    const textAt = nameAt + view.getUint16(start + recordOffset.nameBytes, true);
    const fieldsAt = textAt + view.getUint32(start + recordOffset.textBytes, true);
    this.putEscaped(bytes, nameAt, textAt);
    this.put(textStart);
    this.putEscaped(bytes, textAt, fieldsAt);
    if (fields > 0) this.putFields(bytes, view, fieldsAt, fields);
    else this.putAscii('"');
    this.putAscii("}\n");
  }

  /** Appends a line that says how many of a thread are missing here. */
  appendDropped(count: number, timeNs: number, thread: number): void {
    this.reserve(bytesPerLineMax);
    this.putTime(timeNs);
    this.putLevel(logLevels.indexOf("warn"));
    this.putAscii(ownName);
    this.put(textStart);
    this.putAscii(`${count} lines dropped","fields":{"dropped":${count},"thread":${thread}}}\n`);
  }

  private putFields(bytes: Buffer, view: DataView, start: number, count: number): void {
    let at = start;
    this.put(fieldsStart);
    for (let field = 0; field < count; field++) {
      const kind = view.getUint8(at + fieldOffset.kind);
      const nameAt = at + fieldOffset.name;
      const valueAt = nameAt + view.getUint16(at + fieldOffset.nameBytes, true);
      if (field > 0) this.bytes[this.length++] = character.comma;
      this.bytes[this.length++] = character.quote;
      this.putEscaped(bytes, nameAt, valueAt);
      this.put(valueStart);
      at = this.putValue(bytes, view, valueAt, kind);
    }
    this.putAscii("}");
  }

  /** Returns where the value ends. */
  private putValue(bytes: Buffer, view: DataView, at: number, kind: number): number {
    switch (kind) {
      case fieldKind.nothing:
        this.putAscii("null");
        return at;
      case fieldKind.false:
        this.putAscii("false");
        return at;
      case fieldKind.true:
        this.putAscii("true");
        return at;
      case fieldKind.i32:
        this.putAscii(String(view.getInt32(at, true)));
        return at + Int32Array.BYTES_PER_ELEMENT;
      case fieldKind.f64: {
        const value = view.getFloat64(at, true);
        this.putAscii(Number.isFinite(value) ? String(value) : `"${value}"`);
        return at + Float64Array.BYTES_PER_ELEMENT;
      }
      case fieldKind.i64:
        this.putAscii(`"${view.getBigInt64(at, true).toString()}"`);
        return at + BigInt64Array.BYTES_PER_ELEMENT;
      case fieldKind.u64:
        this.putAscii(`"${view.getBigUint64(at, true).toString()}"`);
        return at + BigUint64Array.BYTES_PER_ELEMENT;
      default: {
        assert(kind === fieldKind.text, `a field of kind ${kind}`);
        const textAt = at + Uint32Array.BYTES_PER_ELEMENT;
        const end = textAt + view.getUint32(at, true);
        this.bytes[this.length++] = character.quote;
        this.putEscaped(bytes, textAt, end);
        this.bytes[this.length++] = character.quote;
        return end;
      }
    }
  }

  /** With what comes before it. Whole seconds are formatted once each. */
  private putTime(timeNs: number): void {
    const micros = Math.round((timeNs + this.originNs) / 1000);
    const second = Math.floor(micros / 1e6);
    if (second !== this.second) {
      this.second = second;
      this.secondBytes.write(new Date(second * 1000).toISOString());
    }
    this.put(timeStart);
    this.put(this.secondBytes);
    let rest = micros - second * 1e6;
    const end = this.length + 6;
    for (let at = end - 1; at >= this.length; at--) {
      this.bytes[at] = character.zero + (rest % 10);
      rest = Math.floor(rest / 10);
    }
    this.length = end;
  }

  private putLevel(level: number): void {
    const start = levelStarts[level];
    assert(start !== undefined, `a line of level ${level}`);
    this.put(start);
  }

  private putEscaped(source: Buffer, start: number, end: number): void {
    const { bytes } = this;
    let { length } = this;
    for (let at = start; at < end; at++) {
      const byte = source[at] ?? 0;
      if (byte >= firstPrintable && byte !== character.quote && byte !== character.backslash) {
        bytes[length++] = byte;
      } else if (byte >= firstPrintable) {
        bytes[length++] = character.backslash;
        bytes[length++] = byte;
      } else {
        bytes.set(escapeStart, length);
        length += escapeStart.length;
        bytes[length++] = hexDigits[byte >> 4] ?? 0;
        bytes[length++] = hexDigits[byte & 0xf] ?? 0;
      }
    }
    this.length = length;
  }

  private put(source: Uint8Array): void {
    this.bytes.set(source, this.length);
    this.length += source.length;
  }

  private putAscii(text: string): void {
    for (let index = 0; index < text.length; index++) {
      this.bytes[this.length++] = text.charCodeAt(index);
    }
  }

  private reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.bytes.length));
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
  }
}
