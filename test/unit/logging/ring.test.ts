import assert from "node:assert/strict";
import { test } from "node:test";
import { LogDrain } from "../../../src/logging/drain.ts";
import {
  makeLogMemory,
  threadOffset,
  threadWord,
  type LogMemory,
} from "../../../src/logging/layout.ts";
import { takeLogRing, type LogRing } from "../../../src/logging/ring.ts";
import { seededRandom } from "../../../src/random.ts";
import { checkNumbers, parseLog } from "./log-scratch.ts";

const name = new TextEncoder().encode("test");

interface Stage {
  readonly memory: LogMemory;
  readonly rings: readonly LogRing[];
  /** What was written so far. */
  readonly text: () => string;
  readonly drain: (room?: number) => boolean;
  /** Of the next writes. */
  failing: boolean;
}

/** @param position Where the rings are when it begins: positions wrap. */
function makeStage(ringBytes: number, threads = 1, position = 0): Stage {
  const memory = makeLogMemory(threads, ringBytes);
  for (let thread = 0; thread < threads; thread++) {
    memory.words[threadWord(thread) + threadOffset.head] = position;
    memory.words[threadWord(thread) + threadOffset.tail] = position;
  }
  const rings = Array.from({ length: threads }, (_, thread) => {
    const ring = takeLogRing(memory);
    assert.ok(ring);
    // As if each were of a thread of its own.
    memory.words[threadWord(thread) + threadOffset.thread] = thread;
    return ring;
  });
  let text = "";
  let room = Infinity;
  const log = new LogDrain(memory, {
    room: () => room,
    write(lines) {
      assert.ok(lines.length <= room || lines.indexOf("\n") === lines.length - 1, "as asked for");
      if (stage.failing) throw new Error("no room");
      text += lines.toString();
    },
  });
  const stage: Stage = {
    memory,
    rings,
    text: () => text,
    failing: false,
    drain(bytes = Infinity) {
      room = bytes;
      return log.drain(Infinity);
    },
  };
  return stage;
}

function write(ring: LogRing | undefined, text: unknown, fields?: object): void {
  ring?.write(1, name, text, fields as Record<string, string>);
}

test("what a line holds comes out as it went in", () => {
  const { rings, drain, text } = makeStage(2 ** 16);
  const texts = [
    "",
    "plain",
    'quotes " and \\ and \n and \u0000 and \u001f and \u007f',
    "höhere Gewalt – 取引 🜛",
    "é",
    "long ".repeat(200),
    `${"x".repeat(24)}ü`,
  ];
  for (const text of texts) write(rings[0], text, { [text]: text });
  write(rings[0], "half of a pair \ud83d", { "\udf1b": true });
  const fields = {
    zero: 0,
    negative: -2147483648,
    word: 2147483648,
    fraction: 0.1,
    huge: 1.7976931348623157e308,
    yes: true,
    no: false,
    nanoseconds: 18446744073709551615n,
    debit: -9223372036854775808n,
    sum: 36893488147419103232n,
  };
  write(rings[0], "numbers", fields);
  write(rings[0], "no number", { nan: NaN, infinite: -Infinity });
  while (drain());
  const lines = parseLog(text());
  texts.forEach((text, index) => {
    assert.equal(lines[index]?.text, text);
    assert.deepEqual(lines[index].fields, { [text]: text });
  });
  const [half, numbers, noNumber] = lines.slice(texts.length);
  assert.equal(half?.text, "half of a pair \ufffd");
  assert.deepEqual(half.fields, { "\ufffd": true });
  assert.deepEqual(numbers?.fields, {
    ...fields,
    nanoseconds: "18446744073709551615",
    debit: "-9223372036854775808",
    sum: "36893488147419103232",
  });
  assert.deepEqual(noNumber?.fields, { nan: "NaN", infinite: "-Infinity" });
});

test("what no type lets through does no harm", () => {
  const { rings, drain, text } = makeStage(2 ** 16);
  const [ring] = rings;
  write(ring, new Error("out of luck"), {
    nothing: null,
    missing: undefined,
    object: {},
    now: Date.now,
  });
  write(ring, undefined);
  write(ring, "throws", {
    get value() {
      throw new Error("out of luck");
    },
  });
  write(ring, "logs", {
    get value() {
      write(ring, "inner");
      return 1;
    },
  });
  write(ring, "last");
  while (drain());
  const [first, second, ...rest] = parseLog(text());
  assert.equal(first?.text, "Error: out of luck");
  const fields = { nothing: null, missing: null, object: "[object]", now: "[function]" };
  assert.deepEqual(first.fields, fields);
  assert.equal(second?.text, "undefined");
  const told = rest.map((line) => line.text);
  // The inner one was dropped while the outer one was under way, so both say so.
  assert.deepEqual(told, ["2 lines dropped", "logs", "last"]);
});

test("times are those of the system's clock, to the microsecond, and count up", () => {
  const { rings, drain, text } = makeStage(2 ** 16);
  const before = Date.now();
  for (let number = 0; number < 100; number++) write(rings[0], "tick");
  while (drain());
  const times = parseLog(text()).map(({ time }) => time);
  const after = Date.now();
  for (const time of times) {
    assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    const ms = Date.parse(time);
    assert.ok(ms >= before - 20 && ms <= after + 20, `${time} is not now`);
  }
  assert.deepEqual(times, times.toSorted());
  assert.ok(new Set(times.map((time) => time.slice(-4, -1))).size > 10, "microseconds differ");
});

for (const position of [0, -(2 ** 12), 2 ** 31 - 2 ** 12]) {
  test(`every line comes out once or is counted, with positions from ${position}`, (context) => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 32);
    context.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const threads = 3;
    const stage = makeStage(4096, threads, position);
    const counts = new Array<number>(threads).fill(0);
    for (let step = 0; step < 20_000; step++) {
      const thread = random.below(threads);
      const number = counts[thread] ?? 0;
      const filler = "x".repeat(random.below(random.below(20) === 0 ? 3000 : 120));
      write(stage.rings[thread], filler, { thread, number, nested: `ü${filler.slice(0, 30)}` });
      counts[thread] = number + 1;
      if (random.below(8) > 0) continue;
      stage.failing = random.below(4) === 0;
      try {
        stage.drain(random.below(3) === 0 ? random.below(1000) : Infinity);
      } catch (error) {
        assert.ok(stage.failing, String(error));
      }
      stage.failing = false;
    }
    while (stage.drain());
    const lines = parseLog(stage.text());
    let dropped = 0;
    for (let thread = 0; thread < threads; thread++) {
      const told = lines.filter(({ fields }) => fields?.["thread"] === thread);
      dropped += checkNumbers(told, counts[thread] ?? 0);
    }
    assert.ok(dropped > 100, `dropped=${dropped}`);
    assert.ok(lines.length > 1000);
  });
}

test("lines of several threads come out in the order of their time", () => {
  const { rings, drain, text } = makeStage(2 ** 16, 3);
  for (let number = 0; number < 300; number++) write(rings[(number * 7) % 3], "tick", { number });
  while (drain());
  assert.equal(checkNumbers(parseLog(text()), 300), 0);
});

test("lines that find no room are counted even where none comes after them", () => {
  const { rings, drain, text } = makeStage(4096);
  for (let number = 0; number < 100; number++) write(rings[0], "x".repeat(100), { number });
  while (drain());
  const lines = parseLog(text());
  const dropped = checkNumbers(lines, 100);
  assert.ok(dropped > 0);
  assert.equal(lines.at(-1)?.text, `${dropped} lines dropped`);
  assert.equal(lines.at(-1)?.level, "warn");
});

test("a line of half the ring fits whatever came before, a longer one is dropped", () => {
  const { rings, drain, text } = makeStage(4096);
  for (let number = 0; number < 100; number++) {
    write(rings[0], "x".repeat(number), { number: 2 * number });
    while (drain());
    write(rings[0], "y".repeat(2000), { number: 2 * number + 1 });
    while (drain());
  }
  assert.equal(checkNumbers(parseLog(text()), 200), 0);
  write(rings[0], "z".repeat(4096));
  while (drain());
  assert.equal(parseLog(text()).at(-1)?.text, "1 lines dropped");
});

test("a ring is handed on once what its thread left is drained, and nothing is lost", () => {
  const { memory, rings, drain, text } = makeStage(4096, 2);
  let number = 0;
  for (let generation = 0; generation < 50; generation++) {
    const ring = generation === 0 ? rings[1] : takeLogRing(memory);
    assert.ok(ring);
    for (let line = 0; line < 30; line++) write(ring, "x".repeat(100), { number: number++ });
    ring.leave();
    write(ring, "after it has left");
    assert.equal(takeLogRing(memory), undefined, "it is not drained yet");
    while (drain());
  }
  assert.ok(checkNumbers(parseLog(text()), number) > 0);
});
