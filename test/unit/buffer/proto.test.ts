import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { temporaryDirectory } from "./fixture.ts";

const root = path.join(import.meta.dirname, "../../..");
const hasProtoc = spawnSync("protoc", ["--version"]).status === 0;

test(
  "the generated code is what the .proto generates",
  {
    skip: hasProtoc ? false : "needs protoc (Debian: protobuf-compiler)",
  },
  (context) => {
    const directory = temporaryDirectory(context);
    execFileSync("sh", [path.join(root, "scripts/generate-proto.sh"), directory]);
    const read = (folder: string): Record<string, string> =>
      Object.fromEntries(
        fs
          .readdirSync(folder, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => path.join(entry.parentPath, entry.name))
          .map((file) => [path.relative(folder, file), fs.readFileSync(file, "utf8")]),
      );
    assert.deepEqual(read(path.join(root, "src/buffer/proto")), read(directory));
  },
);
