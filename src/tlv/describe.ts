/** Messages as plain objects, for tools: what comes out is ready for JSON. */
import { assert } from "../errors.ts";
import { domainNames, type ChecksumPolicy, type DomainName } from "./domain.ts";
import { flyweight } from "./flyweight.ts";
import { layouts, type LayoutName } from "./layout.ts";
import type { TlvMemory } from "./memory.ts";
import { TlvReader } from "./reader.ts";

/** What 64 bits take is in decimal, bytes are in hexadecimal. */
export type DescribedFields = Readonly<Record<string, number | string>>;

/** A TLV by the names of its fields, or the bytes of one whose type has no layout. */
export type DescribedTlv =
  | { readonly type: number; readonly name: LayoutName; readonly fields: DescribedFields }
  | { readonly type: number; readonly value: string };

export interface DescribedMessage {
  readonly domain: DomainName;
  readonly source: number;
  readonly flags: number;
  /** In decimal. */
  readonly sequence: string;
  readonly timestampNs: string;
  readonly tlvs: readonly DescribedTlv[];
}

const namesByType = new Map(
  Object.entries(layouts).map(([name, { type }]) => [type, name as LayoutName]),
);

/**
 * The message of at most `length` bytes at `offset`, with every TLV in it.
 *
 * @throws GaplessError MESSAGE_MALFORMED as `TlvReader.wrap`
 */
export function describeMessage(
  memory: TlvMemory,
  offset: number,
  length: number,
  checksums?: Partial<ChecksumPolicy>,
): DescribedMessage {
  const reader = new TlvReader(checksums === undefined ? {} : { checksums });
  reader.wrap(memory, offset, length);
  const { source, flags, sequence, timestampNs } = reader.header;
  const domain = domainNames[reader.header.domain];
  assert(domain !== undefined, "the reader takes a domain that has no name");
  const tlvs: DescribedTlv[] = [];
  while (reader.next()) tlvs.push(describeTlv(memory, reader));
  return {
    domain,
    source,
    flags,
    sequence: sequence.toString(),
    timestampNs: timestampNs.toString(),
    tlvs,
  };
}

function describeTlv(memory: TlvMemory, reader: TlvReader): DescribedTlv {
  const { type, valueOffset, valueLength } = reader;
  const name = namesByType.get(type);
  if (name === undefined) {
    return { type, value: hexOf(memory.bytes.subarray(valueOffset, valueOffset + valueLength)) };
  }
  const value = flyweight(name).wrap(memory, valueOffset, valueLength);
  const fields: Record<string, number | string> = {};
  for (const field of Object.keys(layouts[name].fields)) {
    const found = Reflect.get(value, field) as number | bigint | Uint8Array;
    if (typeof found === "number") fields[field] = found;
    else fields[field] = typeof found === "bigint" ? found.toString() : hexOf(found);
  }
  return { type, name, fields };
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
