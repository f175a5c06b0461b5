/** The way back from the description of a message to its bytes. */
import {
  headerBytes,
  memoryOf,
  TlvBuilder,
  tlvBytes,
  type DescribedMessage,
  type DescribedTlv,
} from "gapless/tlv";
import { layouts, type Field, type Fields, type LayoutName } from "../../../src/tlv/layout.ts";

type NamedTlv = Extract<DescribedTlv, { name: LayoutName }>;
type Values = Record<string, number | bigint | Uint8Array>;

function bytesOf(hex: number | string): Uint8Array {
  return Uint8Array.from(Buffer.from(String(hex), "hex"));
}

function isBytes({ kind }: Field): boolean {
  return kind === "bytes" || kind === "rest";
}

/** The fields as a flyweight takes them. */
function valuesOf({ name, fields }: NamedTlv): Values {
  const layout: Fields = layouts[name].fields;
  const values: Values = {};
  for (const [field, described] of Object.entries(layout)) {
    const value = fields[field] ?? "";
    if (isBytes(described)) values[field] = bytesOf(value);
    else values[field] = typeof value === "string" ? BigInt(value) : value;
  }
  return values;
}

/** How long the rest is; undefined where the type has none. */
function restLengthOf({ name, fields }: NamedTlv): number | undefined {
  const layout: Fields = layouts[name].fields;
  const rest = Object.keys(layout).find((field) => layout[field]?.kind === "rest");
  return rest === undefined ? undefined : bytesOf(fields[rest] ?? "").length;
}

/** Adds a TLV by its own adder. */
function addDescribed(builder: TlvBuilder, tlv: DescribedTlv): void {
  if (!("name" in tlv)) {
    builder.add(tlv.type, bytesOf(tlv.value));
    return;
  }
  const adder = `add${tlv.name.charAt(0).toUpperCase()}${tlv.name.slice(1)}`;
  const add = Reflect.get(builder, adder) as (restLength?: number) => { set(values: Values): void };
  add.call(builder, restLengthOf(tlv)).set(valuesOf(tlv));
}

/** Bytes of the message that `encodeDescribed` makes. */
function sizeOf({ tlvs }: DescribedMessage): number {
  const sizes = tlvs.map((tlv) => {
    if (!("name" in tlv)) return tlvBytes(tlv.value.length / 2);
    return tlvBytes(layouts[tlv.name].bytesMin + (restLengthOf(tlv) ?? 0));
  });
  return sizes.reduce((sum, size) => sum + size, headerBytes);
}

/** The message in bytes, built in memory that has been used before. */
export function encodeDescribed(message: DescribedMessage): Uint8Array {
  const size = sizeOf(message);
  const memory = memoryOf(new Uint8Array(size + 24).fill(0xa5));
  const builder = new TlvBuilder({ domain: message.domain, source: message.source });
  builder.begin(memory, 8, size);
  builder.header.flags = message.flags;
  builder.header.sequence = BigInt(message.sequence);
  builder.header.timestampNs = BigInt(message.timestampNs);
  for (const tlv of message.tlvs) addDescribed(builder, tlv);
  return memory.bytes.slice(8, 8 + builder.finish());
}
