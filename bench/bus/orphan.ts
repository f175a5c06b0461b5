/** A loop that never comes to rest hears of nothing: it asks whether its parent is still there. */
const parentPid = process.ppid;
const looksPerQuestion = 2 ** 20;

let looks = 0;

/** Called at every look that finds nothing. */
export function leaveOrphaned(): void {
  if (++looks % looksPerQuestion === 0) leaveOrphanedNow();
}

/** Called after a sleep that was for nothing. */
export function leaveOrphanedNow(): void {
  if (process.ppid !== parentPid) process.exit(1);
}
