import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { GaplessError } from "../../../src/errors.ts";
import { loadTopology, parseTopology } from "../../../src/supervise/topology.ts";

/** A file that could be: modules are looked for beside it. */
const file = path.join(import.meta.dirname, "topology.toml");
const module = "topology.test.ts";

const whole = `
name = "desk"
[data]
directory = "data"
[options.seed]
type = "integer"
default = 7
help = "seed"
[services.maker]
module = "${module}"
restart = "on-failure"
restart_delay_ms = 5
[services.taker]
module = "${module}"
[channels.quotes]
type = "SPSC"
producer = "maker"
consumer = "taker"
buffer_size = "64KB"
message_size_max = 100
[audit]
module = "${module}"
`;

function mistakesOf(text: string): string {
  try {
    parseTopology(text, file);
  } catch (error) {
    assert.ok(error instanceof GaplessError);
    assert.equal(error.code, "CONFIG_INVALID");
    for (const line of error.message.split("\n")) assert.ok(line.startsWith(`${file}: `), line);
    return error.message;
  }
  return assert.fail("the mistake went through");
}

test("a whole topology is read, with its defaults, consumers before producers", () => {
  const topology = parseTopology(whole, file);
  assert.deepEqual(
    topology.services.map(({ name, restart, restartDelayMs }) => [name, restart, restartDelayMs]),
    [
      ["taker", "always", 100],
      ["maker", "on-failure", 5],
    ],
  );
  assert.equal(topology.keepsData, true);
  assert.equal(topology.dataDirectory, path.join(import.meta.dirname, "data"));
  assert.equal(topology.channels.get("quotes")?.ringBytes, 65_536);
  assert.equal(topology.channels.get("quotes")?.failedConsumer, "evict");
  assert.deepEqual(topology.options, [{ name: "seed", type: "integer", default: 7, help: "seed" }]);
});

for (const [mistake, from, to, expected] of [
  ["an unknown key", "restart_delay_ms", "restart_dealy_ms", /services\.maker.*restart_dealy_ms/],
  [
    "a wrong type",
    "restart_delay_ms = 5",
    'restart_delay_ms = "5"',
    /services\.maker\.restart_delay_ms: expected a whole number/,
  ],
  [
    "a wrong policy",
    '"on-failure"',
    '"sometimes"',
    /services\.maker\.restart: expected "always", "on-failure" or "never"/,
  ],
  [
    "a module that is not there",
    `[services.taker]\nmodule = "${module}"`,
    '[services.taker]\nmodule = "gone.ts"',
    /services\.taker\.module: expected the path of a module, found no file .*gone\.ts/,
  ],
  [
    "a producer that is no service",
    'producer = "maker"',
    'producer = "baker"',
    /channels\.quotes\.producer: expected a service of this file, found "baker"/,
  ],
  [
    "a size that is none",
    '"64KB"',
    '"64 kilo"',
    /channels\.quotes\.buffer_size: expected a size such as "64MB".* found "64 kilo"/,
  ],
  [
    "a size that is no power of two",
    '"64KB"',
    '"60KB"',
    /channels\.quotes\.buffer_size: expected a power of two/,
  ],
  [
    "a message too large for its channel",
    "message_size_max = 100",
    "message_size_max = 60000",
    /channels\.quotes\.message_size_max: expected at most 8176 bytes/,
  ],
  [
    "a default of another type",
    "default = 7",
    'default = "seven"',
    /options\.seed\.default: expected integer/,
  ],
  ["a missing table", '[data]\ndirectory = "data"', "", /data: /],
  ["text that is no TOML", 'name = "desk"', "name = desk", /line 2, column/],
] as const) {
  test(`${mistake} is named with file, key and expectation`, () => {
    assert.ok(whole.includes(from), from);
    assert.match(mistakesOf(whole.replace(from, to)), expected);
  });
}

test("all mistakes are named at once", () => {
  const text = whole
    .replace('producer = "maker"', 'producer = "baker"')
    .replace("default = 7", 'default = "x"');
  const lines = mistakesOf(text).split("\n");
  assert.equal(lines.length, 2, lines.join("\n"));
});

test("a file that cannot be read is a mistake of the configuration", () => {
  assert.throws(
    () => loadTopology("no/such/topology.toml"),
    /no\/such\/topology\.toml: cannot be read/,
  );
});

const recovering = whole
  .replace("message_size_max = 100", "message_size_max = 100\nrecovery = { RECOVERY }")
  .replace('restart = "on-failure"\n', "");

function recoveringWith(recovery: string, taker = ""): string {
  return recovering
    .replace("RECOVERY", recovery)
    .replace("[channels.quotes]", `${taker}\n[channels.quotes]`);
}

test("a channel may ask for its consumers to be restarted, and says after how long", () => {
  const delays = (text: string): [string, number][] =>
    parseTopology(text, file).services.map(({ name, restartDelayMs }) => [name, restartDelayMs]);
  const asking = "auto_restart_consumers = true, restart_delay_ms = 700";
  assert.deepEqual(delays(recoveringWith(asking)), [
    ["taker", 700],
    ["maker", 5],
  ]);
  // What the service says itself comes first.
  assert.deepEqual(delays(recoveringWith(asking, "restart_delay_ms = 40")), [
    ["taker", 40],
    ["maker", 5],
  ]);
  assert.deepEqual(delays(recoveringWith("restart_delay_ms = 700")), [
    ["taker", 100],
    ["maker", 5],
  ]);
  assert.match(
    mistakesOf(recoveringWith(asking, 'restart = "never"')),
    /services\.taker\.restart: .*channels\.quotes\.recovery has auto_restart_consumers = true/,
  );
});

test("a channel with persistence needs a service that records it, and its path is beside the file", () => {
  const persisting = recoveringWith('enable_persistence = true, persistence_path = "kept"');
  assert.match(mistakesOf(persisting), /channels\.quotes\.consumers: .*found "recorder"/);
  const recorder = `[services.recorder]\nmodule = "${module}"`;
  const text = persisting.replace("[channels.quotes]", `${recorder}\n[channels.quotes]`);
  const channel = parseTopology(text, file).channels.get("quotes");
  assert.deepEqual(channel?.consumers, ["taker", "recorder"]);
  assert.equal(channel.recovery?.persistencePath, path.join(import.meta.dirname, "kept"));
});
