/** Values as JSON: what does not fit into a double is a string of its digits. */

/** On one line, or indented by so many blanks. */
export function formatJson(value: unknown, indent = 0): string {
  const replace = (_key: string, one: unknown): unknown =>
    typeof one === "bigint" ? one.toString() : one;
  return JSON.stringify(value, replace, indent);
}
