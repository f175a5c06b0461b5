/**
 * Messages of typed values that services in other languages read too: built and read in place, in
 * the memory of a channel or any other. See spec/tlv.md.
 */
export { TlvBuilder, type OpenHeader, type TlvBuilderOptions } from "./builder.ts";
export { crc32 } from "./checksum.ts";
export {
  describeMessage,
  type DescribedFields,
  type DescribedMessage,
  type DescribedTlv,
} from "./describe.ts";
export { defaultChecksums, domains, type ChecksumPolicy, type DomainName } from "./domain.ts";
export {
  flyweight,
  type FieldsInPlace,
  type FieldValues,
  type Flyweight,
  type FlyweightOf,
  type HeaderFlyweight,
} from "./flyweight.ts";
export {
  headerBytes,
  layouts,
  messageBytesMax,
  tlvBytes,
  valueBytesMax,
  type Field,
  type Fields,
  type Kind,
  type Layout,
  type LayoutName,
} from "./layout.ts";
export { memoryOf, type TlvMemory } from "./memory.ts";
export { TlvReader, type TlvReaderOptions } from "./reader.ts";
export { recoveryRequestType, recoveryRequestTypes } from "./recovery.ts";
export { GaplessError, isGaplessError, type Advice, type ErrorCode } from "../errors.ts";
