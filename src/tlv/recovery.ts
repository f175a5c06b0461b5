/** What a consumer asks for that finds messages missing. */

/** The values of `requestType` in a RecoveryRequest. */
export const recoveryRequestTypes = { retransmit: 1, snapshot: 2 } as const;

/** From so many missing messages on, the state is sooner sent than they are. */
const snapshotGapMin = 100;

/** What to ask for where `missingCount` messages are missing between two that came. */
export function recoveryRequestType(missingCount: number): 1 | 2 {
  const { retransmit, snapshot } = recoveryRequestTypes;
  return missingCount < snapshotGapMin ? retransmit : snapshot;
}
