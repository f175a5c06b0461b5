/** Configuration read once: a value is checked against its schema, and each mistake is named. */
import { parse, TomlError } from "smol-toml";
import type { z } from "zod";
import { GaplessError } from "./errors.ts";

/**
 * Checks `value` and gives back what the schema makes of it.
 *
 * @param source What the user calls the place that `value` comes from: a file, as a rule.
 * @throws GaplessError CONFIG_INVALID naming source, key and what was expected, for each mistake.
 */
export function checkConfig<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  source: string,
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw invalidConfig(
    source,
    result.error.issues.map((issue) => ({
      key: issue.path.map(String).join("."),
      problem: issue.message,
    })),
  );
}

export interface ConfigMistake {
  readonly key: string;
  readonly problem: string;
}

export function invalidConfig(source: string, mistakes: readonly ConfigMistake[]): GaplessError {
  const lines = mistakes.map(({ key, problem }) =>
    key === "" ? `${source}: ${problem}` : `${source}: ${key}: ${problem}`,
  );
  return new GaplessError("CONFIG_INVALID", lines.join("\n"));
}

/** @throws GaplessError CONFIG_INVALID naming `file`, line and column. */
export function parseToml(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [reason = "not TOML"] = error.message.split("\n");
    const problem = `line ${error.line}, column ${error.column}: ${reason}`;
    throw invalidConfig(file, [{ key: "", problem }]);
  }
}

const unitByName: Readonly<Record<string, number>> = {
  B: 1,
  KB: 2 ** 10,
  MB: 2 ** 20,
  GB: 2 ** 30,
};

/** "64MB", "8KB" or a number of bytes; undefined for anything else. Units are powers of 1024. */
export function parseSize(value: string | number): number | undefined {
  if (typeof value === "number")
    return Number.isSafeInteger(value) && value > 0 ? value : undefined;
  const match = /^(\d+) ?(B|KB|MB|GB)$/.exec(value);
  const unit = match?.[2] === undefined ? undefined : unitByName[match[2]];
  if (match === null || unit === undefined) return undefined;
  return parseSize(Number(match[1]) * unit);
}
