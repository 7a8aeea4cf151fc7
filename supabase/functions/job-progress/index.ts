/** How far a job is: its state, the place in the queue while it waits, and the worker's own word while it is made. */

import { userOf } from "../_shared/auth.ts";
import { call, countCall, jobOf, noSuchJob } from "../_shared/database.ts";
import { Fields, isUuid } from "../_shared/fields.ts";
import { answer, endpoint } from "../_shared/http.ts";
import { type Json, parseObject } from "../_shared/json.ts";
import { progressOf, QueueError } from "../_shared/redis.ts";

const COLUMNS = "id,job_type,status,error_message,created_at,started_at,completed_at";

Deno.serve(endpoint("job-progress", { methods: ["GET", "POST"] }, async (request, body) => {
  const user = await userOf(request);
  await countCall(user, "job-progress");
  const asked = request.method === "GET"
    ? new URL(request.url).searchParams.get("job_id")
    : new Fields(parseObject(body)).uuid("job_id");
  const job = isUuid(asked) ? await jobOf(user, asked, COLUMNS) : undefined;
  if (job === undefined) throw noSuchJob();
  const place = job.status === "queued" ? await call<Json>("queue_estimate", { p_job: job.id }) : null;
  const progress = job.status === "processing" ? await heard(job.id) : null;
  return answer({ success: true, job, queue: place, progress });
}));

/** Nothing while the queue is away: the state of the job is worth having without it. */
async function heard(job: string): Promise<Json> {
  try {
    return JSON.parse((await progressOf(job)) ?? "null");
  } catch (error) {
    if (error instanceof QueueError || error instanceof SyntaxError) return null;
    throw error;
  }
}
