/** What users need to test what they build on Gapless. */
export { seededRandom, type Random } from "../random.ts";
