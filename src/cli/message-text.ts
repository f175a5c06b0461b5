/** The bytes of a message, as a person or a program can read them: pure. */
import { isGaplessError } from "../errors.ts";
import { describeMessage, type DescribedMessage, type TlvMemory } from "../tlv/tlv.ts";

/** One of these, ready for JSON. */
export interface DecodedMessage {
  readonly tlv?: DescribedMessage;
  readonly text?: string;
  readonly hex?: string;
}

const hexBytesShown = 48;
const utf8 = new TextDecoder("utf-8", { fatal: true });
/** Control characters that no text has; those of white space are shown as they are escaped. */
// eslint-disable-next-line no-control-regex
const unprintable = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/;

/** As TLV where it is that, else as text, or else as hexadecimal. */
export function decodeMessage(memory: TlvMemory, offset: number, length: number): DecodedMessage {
  const tlv = decodeTlv(memory, offset, length);
  if (tlv !== undefined) return { tlv };
  const bytes = memory.bytes.subarray(offset, offset + length);
  const text = decodeText(bytes);
  return text === undefined ? { hex: Buffer.from(bytes).toString("hex") } : { text };
}

function decodeTlv(
  memory: TlvMemory,
  offset: number,
  length: number,
): DescribedMessage | undefined {
  try {
    return describeMessage(memory, offset, length);
  } catch (error) {
    // Of another kind, or damaged: then its bytes are what there is to show.
    if (isGaplessError(error, "MESSAGE_MALFORMED")) return undefined;
    throw error;
  }
}

/** undefined where it is no UTF-8, or has control characters that no text has. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    const text = utf8.decode(bytes);
    return unprintable.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** On one line; long hexadecimal is cut off. */
export function formatDecoded({ tlv, text, hex = "" }: DecodedMessage): string {
  if (tlv !== undefined) return formatTlv(tlv);
  if (text !== undefined) return text.replace(/[\t\n\r]/g, (blank) => escapes[blank] ?? " ");
  const digits = 2 * hexBytesShown;
  return hex.length <= digits ? hex : `${hex.slice(0, digits)}… ${hex.length / 2} bytes`;
}

const escapes: Readonly<Record<string, string>> = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/** `marketData/7 #12 trade(assetId=42 price=100) 200(00ff)` */
function formatTlv({ domain, source, sequence, tlvs }: DescribedMessage): string {
  const parts = tlvs.map((tlv) => {
    if (!("name" in tlv)) return `${tlv.type}(${tlv.value})`;
    const fields = Object.entries(tlv.fields).map(([name, value]) => `${name}=${value}`);
    return `${tlv.name}(${fields.join(" ")})`;
  });
  return [`${domain}/${source}`, `#${sequence}`, ...parts].join(" ");
}
