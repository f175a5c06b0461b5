/**
 * How the properties of a flyweight read and write each kind of field.
 *
 * V8 puts a number beyond 32 bits on its heap wherever it is handed to a function, or back, that
 * is not inlined, and it inlines only so many into one caller. The words of a 64-bit field are i32,
 * which need no heap.
 */
import { GaplessError } from "../errors.ts";
import type { Field, Kind } from "./layout.ts";

/** Where a flyweight is, as its properties see it. */
export interface Place {
  bytes: Uint8Array;
  view: DataView;
  offset: number;
  length: number;
}

/** Properties of a flyweight, which is `this` in them. */
type Properties = PropertyDescriptorMap & ThisType<Place>;
type Property = PropertyDescriptor & ThisType<Place>;

interface NamedField {
  readonly name: string;
  readonly at: number;
}

/** A field of 64 bits: with upper words from `highMin` to `highMax` it is taken for a number. */
interface WideField extends NamedField {
  readonly highMin: number;
  readonly highMax: number;
}

const twoTo32 = 2 ** 32;

/** Properties by kind. */
export const propertiesOf: {
  readonly [K in Kind]: (name: string, field: Field) => Properties;
} = {
  u8: (name, { at }) => {
    const field = { name, at };
    return {
      [name]: {
        get() {
          return this.view.getUint8(this.offset + at);
        },
        set(value: number) {
          setU8(this, field, value);
        },
      },
    };
  },
  u16: (name, { at }) => {
    const field = { name, at };
    return {
      [name]: {
        get() {
          return this.view.getUint16(this.offset + at, true);
        },
        set(value: number) {
          setU16(this, field, value);
        },
      },
    };
  },
  u32: (name, { at }) => {
    const field = { name, at };
    return {
      [name]: {
        get() {
          return this.view.getUint32(this.offset + at, true);
        },
        set(value: number) {
          setU32(this, field, value);
        },
      },
    };
  },
  i32: (name, { at }) => {
    const field = { name, at };
    return {
      [name]: {
        get() {
          return this.view.getInt32(this.offset + at, true);
        },
        set(value: number) {
          setI32(this, field, value);
        },
      },
    };
  },
  u64: (name, { at }) => ({
    [name]: unsigned(name, at),
    ...wide({ name, at, highMin: 0, highMax: 2 ** 21 - 1 }),
  }),
  i64: (name, { at }) => ({
    [name]: {
      get() {
        return this.view.getBigInt64(this.offset + at, true);
      },
      set(value: bigint) {
        if (BigInt.asIntN(64, value) !== value) refuse(name, value, "-2^63 to 2^63 - 1");
        this.view.setBigInt64(this.offset + at, value, true);
      },
    },
    ...wide({ name, at, highMin: -(2 ** 21), highMax: 2 ** 21 - 1 }),
  }),
  time: (name, { at }) => ({
    [name]: unsigned(name, at),
    ...wide({ name, at, highMin: 0, highMax: 2 ** 31 - 1 }),
  }),
  bytes: (name, { at, bytes }) => bytesAt(name, at, () => bytes),
  rest: (name, { at }) => bytesAt(name, at, (length) => length - at),
};

function unsigned(name: string, at: number): Property {
  return {
    get() {
      return this.view.getBigUint64(this.offset + at, true);
    },
    set(value: bigint) {
      if (BigInt.asUintN(64, value) !== value) refuse(name, value, "0 to 2^64 - 1");
      this.view.setBigUint64(this.offset + at, value, true);
    },
  };
}

function wide(field: WideField): Properties {
  return {
    [`${field.name}Number`]: {
      get() {
        return getWide(this, field);
      },
      set(value: number) {
        setWide(this, field, value);
      },
    },
    [`${field.name}Low`]: word(field.at),
    [`${field.name}High`]: word(field.at + 4),
  };
}

function word(at: number): Property {
  return {
    get() {
      return this.view.getInt32(this.offset + at, true);
    },
    set(value: number) {
      this.view.setInt32(this.offset + at, value, true);
    },
  };
}

function bytesAt(name: string, at: number, lengthIn: (length: number) => number): Properties {
  return {
    [name]: {
      get() {
        const start = this.offset + at;
        return new Uint8Array(this.bytes.subarray(start, start + lengthIn(this.length)));
      },
      set(value: Uint8Array) {
        const length = lengthIn(this.length);
        if (value.length !== length) refuse(`${name}.length`, value.length, String(length));
        this.bytes.set(value, this.offset + at);
      },
    },
    [`${name}Offset`]: {
      get() {
        return this.offset + at;
      },
    },
    [`${name}Length`]: {
      get() {
        return lengthIn(this.length);
      },
    },
  };
}

function setU8(place: Place, field: NamedField, value: number): void {
  if ((value & 0xff) !== value) refuse(field.name, value, "0 to 255");
  place.view.setUint8(place.offset + field.at, value);
}

function setU16(place: Place, field: NamedField, value: number): void {
  if ((value & 0xffff) !== value) refuse(field.name, value, "0 to 65,535");
  place.view.setUint16(place.offset + field.at, value, true);
}

function setU32(place: Place, field: NamedField, value: number): void {
  if (value >>> 0 !== value) refuse(field.name, value, "0 to 2^32 - 1");
  place.view.setUint32(place.offset + field.at, value, true);
}

function setI32(place: Place, field: NamedField, value: number): void {
  if ((value | 0) !== value) refuse(field.name, value, "-2^31 to 2^31 - 1");
  place.view.setInt32(place.offset + field.at, value, true);
}

function getWide(place: Place, field: WideField): number {
  const start = place.offset + field.at;
  const high = place.view.getInt32(start + 4, true);
  if (high < field.highMin || high > field.highMax) refuseToRound(field.name);
  return high * twoTo32 + place.view.getUint32(start, true);
}

function setWide(place: Place, field: WideField, value: number): void {
  const high = Math.floor(value / twoTo32);
  const low = value >>> 0;
  // The sum differs for what is no whole number.
  if (high * twoTo32 + low !== value || high < field.highMin || high > field.highMax) {
    refuseNumber(field, value);
  }
  const start = place.offset + field.at;
  place.view.setUint32(start, low, true);
  place.view.setInt32(start + 4, high, true);
}

/** For a value that a field cannot hold. */
export function refuse(name: string, value: unknown, expected: string): never {
  throw new GaplessError("INPUT_MALFORMED", `${name} is ${String(value)}. Expected ${expected}.`);
}

function refuseNumber({ name, highMin, highMax }: WideField, value: number): never {
  const [least, beyond] = [highMin * twoTo32, (highMax + 1) * twoTo32];
  const range = `a whole number from ${least} to below ${beyond}`;
  refuse(name, value, `${range}, or a bigint for ${name} itself`);
}

function refuseToRound(name: string): never {
  throw new GaplessError(
    "INPUT_MALFORMED",
    `${name} is not exact as a number. Read ${name} itself, a bigint, or its two words.`,
  );
}
