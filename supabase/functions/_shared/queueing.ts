/** From an accepted request to a job in the queue. */

import { covered } from "./consents.ts";
import { call, type Row } from "./database.ts";
import { Refusal } from "./errors.ts";
import type { JsonObject } from "./json.ts";
import { push, QueueError } from "./redis.ts";

/** What `create_job` and `promote_job` answer. The payload goes to the workers, with its consent where that is needed. */
export interface Created extends JsonObject {
  created: boolean;
  job: Row;
  queue: string;
  payload: JsonObject;
  position: number;
  waiting: number;
  estimate_seconds: number;
  credits_left: number;
  consent: { paths: string[]; expires_at: number } | null;
}

/** Push a job that was just made. One that was asked for before is in the queue already, or found by the workers. */
export async function enqueue(made: Created): Promise<void> {
  if (!made.created) return;
  const payload = await messageOf(made);
  try {
    await push(made.queue, payload);
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    console.error(JSON.stringify({ event: "push", outcome: error.outcome, job: made.job.id, reason: error.message }));
    if (error.outcome === "refused") await giveUp(made.job.id);
  }
}

/** The job of a consent that cannot be confirmed is given up before it is in the queue. */
async function messageOf(made: Created): Promise<JsonObject> {
  try {
    return await covered(made);
  } catch (error) {
    await call("fail_push", { p_job: made.job.id, p_reason: "The consent for this picture could not be confirmed." });
    throw error;
  }
}

/** After a time-out the row stays `queued`: the element may have arrived, and the workers restore it if it has not. */
async function giveUp(job: string): Promise<never> {
  await call("fail_push", { p_job: job, p_reason: "The queue could not be reached. Please try again." });
  throw new Refusal(503, "The queue could not be reached. Please try again.", { code: "queue", retryAfter: 5 });
}
