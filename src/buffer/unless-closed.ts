/** A read that its buffer was closed under. */
import { isGaplessError } from "../errors.ts";

/** The answer, or undefined where it did not come because `source` was closed meanwhile. */
export async function unlessClosed<Answer>(
  source: { readonly isClosed: boolean },
  answer: Promise<Answer>,
): Promise<Answer | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (source.isClosed && isGaplessError(error, "CLOSED")) return undefined;
    throw error;
  }
}
