/** A channel's file that was made with other settings than its configuration has now. */
import assert from "node:assert/strict";
import test from "node:test";
import zlib from "node:zlib";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { descriptionWord, headerWord, lineBytes } from "../../../src/bus/layout.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  ringPath,
  type Settings,
} from "../../support/bus-channel.ts";

/** What opening says, the same at either end. */
function refusal(directory: string, settings: Settings, code: ErrorCode): string {
  const [left, right] = (["engine", "ledger"] as const).map((service) => {
    using bus = openAs(directory, service, settings);
    try {
      if (service === "engine") bus.publisher(channelName);
      else bus.subscriber(channelName);
    } catch (error) {
      assert.ok(isGaplessError(error, code), String(error));
      return error.message;
    }
    assert.fail("it was opened");
  });
  assert.equal(left, right);
  return left ?? "";
}

/** Makes a channel, changes words of its header and has them covered by its checksum again. */
function makeSpoilt(directory: string, spoil: (words: Int32Array) => void): void {
  const file = openFile(directory);
  const [{ words, bytes }] = file.lanes;
  spoil(words);
  const checked = bytes.subarray((headerWord.checksum + 1) * 4, lineBytes);
  words[headerWord.checksum] = zlib.crc32(checked);
  file.unmap();
}

const changes: [settings: Settings, said: string][] = [
  [{ messageSizeMax: 400 }, "message_size_max is 496 in the file and 400 in the configuration"],
  [{ bufferSize: "8KB" }, "buffer_size is 4096 in the file and 8192 in the configuration"],
  [
    { failedConsumer: "evict" },
    'failed_consumer is "wait" in the file and "evict" in the configuration',
  ],
  [
    { consumers: ["ledger", "candles"] },
    'consumers is ["ledger"] in the file and ["ledger","candles"] in the configuration',
  ],
  [{ keys: { type: "SPSC" } }, 'type is "SPMC" in the file and "SPSC" in the configuration'],
  [
    { producers: ["engine", "auction"] },
    'type is "SPMC" in the file and "MPMC" in the configuration; ' +
      'producers is ["engine"] in the file and ["engine","auction"] in the configuration',
  ],
  [
    { keys: { backup_producer: "spare" } },
    'backup_producer is nobody in the file and "spare" in the configuration',
  ],
  [{ keys: { priorities: 3 } }, "priorities is 1 in the file and 3 in the configuration"],
  [
    { keys: { backpressure: { mode: "DropOldest" } } },
    'backpressure.mode is "Reject" in the file and "DropOldest" in the configuration',
  ],
  [
    { keys: { recovery: { enable_persistence: true, persistence_path: "recordings" } } },
    "recovery.enable_persistence is false in the file and true in the configuration",
  ],
];

for (const [settings, said] of changes) {
  test(`a file of other settings is a wrong configuration that is named: ${said}`, (t) => {
    const directory = makeDirectory(t);
    openFile(directory).unmap();
    assert.equal(
      refusal(directory, settings, "CONFIG_INVALID"),
      `${ringPath(directory)} was made with other settings than channel trades has now: ${said}. ` +
        "Stop the services that use it and remove it, or give all of them the same configuration.",
    );
  });
}

test("names in another order are other settings", (t) => {
  const directory = makeDirectory(t);
  openFile(directory, { consumers: ["candles", "ledger"] }).unmap();
  const said = refusal(directory, { consumers: ["ledger", "candles"] }, "CONFIG_INVALID");
  assert.ok(
    said.includes('consumers is ["candles","ledger"] in the file and ["ledger","candles"]'),
  );
});

test("of a file that tells no names what its header says is named, as far as that differs", (t) => {
  const directory = makeDirectory(t);
  makeSpoilt(directory, (words) => (words[descriptionWord.type] = 0));
  const more = { consumers: ["ledger", "candles"], messageSizeMax: 400 };
  assert.match(
    refusal(directory, more, "CONFIG_INVALID"),
    /: the number of consumers is 1 in the file and 2 in .*; message_size_max is 496 .* and 400 /,
  );
  const same: Settings = { failedConsumer: "evict" };
  assert.match(refusal(directory, same, "CONFIG_INVALID"), /: which ones, it does not tell\./);
});

test("a header of other settings that cannot be is damage, and nothing behind the file is read", (t) => {
  const lies: [word: number, value: number, said: RegExp][] = [
    ...[-1, 0, 65].map((value): [number, number, RegExp] => [
      headerWord.producers,
      value,
      new RegExp(`producers=${value}, expected 1 to 64`),
    ]),
    [headerWord.producers, 64, /bytes=\d+, expected \d+/],
    [headerWord.consumers, 0x7fff_ffff, /consumers=2147483647, expected 1 to 64/],
    [headerWord.consumers, 64, /bytes=\d+, expected \d+/],
    [headerWord.lanes, 9, /lanes=9, expected 1 to 8/],
    [headerWord.lanes, 2, /bytes=\d+, expected \d+/],
    [headerWord.ringBytesLog2, 200, /ringBytesLog2=200, expected 12 to 33/],
    [headerWord.ringBytesLog2, 33, /bytes=\d+, expected \d+/],
  ];
  for (const [word, value, said] of lies) {
    const directory = makeDirectory(t);
    makeSpoilt(directory, (words) => {
      words[word] = value;
      words[headerWord.fingerprint] = 5;
    });
    assert.match(refusal(directory, {}, "STORAGE_CORRUPT"), said);
  }
});
