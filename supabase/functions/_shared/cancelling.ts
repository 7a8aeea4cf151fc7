/** Taking a job back. */

import { call } from "./database.ts";
import { markCancelled, QueueError } from "./redis.ts";

export interface Cancelled {
  cancelled: boolean;
  status: string;
}

/** Raises the 404 of a job that is not the user's. Without the mark the job is made for nobody, and nothing is kept. */
export async function cancel(user: string, job: string): Promise<Cancelled> {
  const ended = await call<Cancelled>("cancel_job", { p_user: user, p_job: job });
  if (ended.status !== "cancelled") return ended;
  try {
    await markCancelled(job);
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    console.error(JSON.stringify({ event: "cancel mark", outcome: error.outcome, job, reason: error.message }));
  }
  return ended;
}
