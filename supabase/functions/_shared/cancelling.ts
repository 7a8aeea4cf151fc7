/** Taking a job back. */

import { call } from "./database.ts";
import { markCancelled, QueueError } from "./redis.ts";

/**
 * First in the database, then by the mark that workers look for. Raises the refusals of `cancel_job`: the job is not the
 * user's, or has ended. Without the mark the job is made for nobody, and nothing of it is kept.
 */
export async function cancel(user: string, job: string): Promise<void> {
  await call("cancel_job", { p_user: user, p_job: job });
  try {
    await markCancelled(job);
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    console.error(JSON.stringify({ event: "cancel mark", outcome: error.outcome, job, reason: error.message }));
  }
}
