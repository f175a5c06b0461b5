/**
 * Flyweights: a value in place, with a property for each field. They are made from the table in
 * layout.ts, once a type; a flyweight is then wrapped around one value after the other.
 */
import { assert } from "../errors.ts";
import {
  headerBytes,
  headerFields,
  layouts,
  type Field,
  type Fields,
  type Kind,
  type LayoutName,
} from "./layout.ts";
import { noMemory, type TlvMemory } from "./memory.ts";
import { propertiesOf, refuse, type Place } from "./properties.ts";

type Wide = "u64" | "i64" | "time";
type NamesOf<F extends Fields, K extends Kind> = {
  [N in keyof F]: F[N] extends Field<K> ? N : never;
}[keyof F] &
  string;

type ValueOf<K extends Kind> = K extends Wide
  ? bigint
  : K extends "bytes" | "rest"
    ? Uint8Array
    : number;

/**
 * The properties of a value. Numbers of up to 32 bits are one property each, and so are bytes,
 * which come out as a copy. What takes 64 bits is there four times:
 *
 *   price        as a bigint, which allocates
 *   priceNumber  as a number. Throws where a number is not exact, from 2^53 on; a time is rounded
 *                to a multiple of 256 ns instead, and goes to the year 2262. Where V8 does not
 *                inline it, because its caller has grown large, it allocates 16 bytes
 *   priceLow     its lower and its upper 32 bits, each as an i32: never allocate, never throw
 *   priceHigh
 *
 * And of bytes, `dataOffset` is where they begin in the memory, `dataLength` how many there are.
 *
 * To assign what a field cannot hold throws INPUT_MALFORMED.
 */
export type FieldsInPlace<F extends Fields> = {
  -readonly [N in keyof F]: ValueOf<F[N]["kind"]>;
} & Record<`${NamesOf<F, Wide>}${"Number" | "Low" | "High"}`, number> &
  Readonly<Record<`${NamesOf<F, "bytes" | "rest">}${"Offset" | "Length"}`, number>>;

/** Values to assign by name; of 64 bits as a number too, where it is exact. */
export type FieldValues<F extends Fields> = {
  readonly [N in keyof F]?: ValueOf<F[N]["kind"]> | (F[N]["kind"] extends Wide ? number : never);
};

/** A value in place; valid as long as what it is wrapped around. */
export type FlyweightOf<F extends Fields> = FieldsInPlace<F> & {
  /** Puts it around the value of `length` bytes at `offset`; by default, of its smallest size. */
  wrap(memory: TlvMemory, offset: number, length?: number): FlyweightOf<F>;
  /** Assigns by name. Slower than assigning to properties one by one. */
  set(values: FieldValues<F>): void;
};

/** The flyweight of a type: `Flyweight<"trade">`. */
export type Flyweight<Name extends LayoutName> = FlyweightOf<(typeof layouts)[Name]["fields"]>;

/** The flyweight of the header of a message. */
export type HeaderFlyweight = FlyweightOf<typeof headerFields>;

function classOf(bytesMin: number, fields: Fields): new () => unknown {
  class ValueInPlace implements Place {
    bytes = noMemory.bytes;
    view = noMemory.view;
    offset = 0;
    length = 0;

    wrap(memory: TlvMemory, offset: number, length = bytesMin): this {
      this.bytes = memory.bytes;
      this.view = memory.view;
      this.offset = offset;
      this.length = length;
      return this;
    }

    set(values: Readonly<Record<string, unknown>>): void {
      for (const [name, value] of Object.entries(values)) {
        const kind = fields[name]?.kind;
        if (kind === undefined) refuse(name, value, `one of ${Object.keys(fields).join(", ")}`);
        const isWide = kind === "u64" || kind === "i64" || kind === "time";
        const property = isWide && typeof value === "number" ? `${name}Number` : name;
        Reflect.set(this, property, value);
      }
    }
  }
  for (const [name, field] of Object.entries(fields)) {
    Object.defineProperties(ValueInPlace.prototype, propertiesOf[field.kind](name, field));
  }
  return ValueInPlace;
}

const classes = new Map(
  Object.entries(layouts).map(([name, { bytesMin, fields }]) => [name, classOf(bytesMin, fields)]),
);
const Header = classOf(headerBytes, headerFields);

/** A flyweight for values of a type: make one, and wrap it around each. */
export function flyweight<Name extends LayoutName>(name: Name): Flyweight<Name> {
  const Class = classes.get(name);
  assert(Class !== undefined, `there is no layout ${name}`);
  return new Class() as Flyweight<Name>;
}

/** A flyweight for headers. */
export function headerFlyweight(): HeaderFlyweight {
  return new Header() as HeaderFlyweight;
}
