import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import test from "node:test";
import { kafkaSource, type KafkaSourceOptions } from "../../../src/connect/kafka.ts";
import { withCode } from "./fixture.ts";

const right: KafkaSourceOptions = { bootstrap: "127.0.0.1:9092", topic: "trades", group: "oms" };

test("a wrong option of a Kafka source is named with its value", () => {
  const cases: [Partial<Record<keyof KafkaSourceOptions, unknown>>, string][] = [
    [{ bootstrap: "localhost" }, 'bootstrap="localhost"'],
    [{ bootstrap: [] }, "bootstrap=[]"],
    [{ topic: "" }, 'topic=""'],
    [{ group: "a b" }, 'group="a b"'],
    [{ partition: -1 }, "partition=-1"],
    [{ batchMax: 0 }, "batchMax=0"],
    [{ fetchBytesMax: 1.5 }, "fetchBytesMax=1.5"],
    [{ sessionTimeoutMs: 5 }, "sessionTimeoutMs=5"],
    [{ silenceMs: { first: 10, most: 5 } }, "silenceMs.most=5"],
    [{ retryDelayMs: { first: 0, most: 5 } }, "retryDelayMs.first=0"],
    [{ whenTrimmed: "latest" }, 'whenTrimmed="latest"'],
    [{ decode: 1 }, "decode="],
    [{ onOutage: 1 }, "onOutage="],
  ];
  for (const [changes, named] of cases) {
    assert.throws(
      () => kafkaSource({ ...right, ...changes } as KafkaSourceOptions),
      withCode("CONFIG_INVALID", named, "expected"),
    );
  }
});

test("without the client library a Kafka source says what to install", () => {
  const door = path.resolve(import.meta.dirname, "../../../src/connect/kafka.ts");
  const program = `
    import { registerHooks } from "node:module";
    registerHooks({
      resolve(specifier, context, next) {
        const isLibrary = specifier === "@platformatic/kafka";
        return next(isLibrary ? "gapless-not-installed" : specifier, context);
      },
    });
    const { kafkaSource } = await import(${JSON.stringify(door)});
    await using source = kafkaSource(${JSON.stringify(right)});
    try {
      for await (const batch of source.live(AbortSignal.timeout(5000))) break;
    } catch (error) {
      console.log(error.code, error.message);
    }`;
  const args = ["--conditions=source", "--input-type=module", "--eval", program];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  assert.match(stdout, /^CONFIG_INVALID .* npm install @platformatic\/kafka/, stderr);
});
