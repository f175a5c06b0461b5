/** The audit as a person reads it. */
import type { AuditReport } from "../supervise/service.ts";

export function formatAudit(audit: AuditReport): string {
  const width = Math.max(...audit.lines.map(({ label }) => label.length));
  const lines = audit.lines.map(({ label, value, holds }) => {
    const mark = holds === undefined ? " " : holds ? "✓" : "✗";
    return `  ${mark} ${label.padEnd(width)}  ${value}`;
  });
  const verdict = audit.holds ? "audit holds" : "AUDIT DOES NOT HOLD";
  return `\n${verdict}\n${lines.join("\n")}\n`;
}
