/**
 * Values as JSON: what does not fit into a double is a string of its digits, and what there is none
 * of is null, so that a document always has the same keys.
 */

/** On one line, or indented by so many blanks. */
export function formatJson(value: unknown, indent = 0): string {
  const replace = (_key: string, one: unknown): unknown =>
    typeof one === "bigint" ? one.toString() : (one ?? null);
  return JSON.stringify(value, replace, indent);
}
