/** A prompt in better words while the user waits: a job for the text model alone, or the user's own words in time. */

import { userOf } from "../_shared/auth.ts";
import { cancel } from "../_shared/cancelling.ts";
import { call, countCall, jobOf, type Row } from "../_shared/database.ts";
import { Refusal, wrongField } from "../_shared/errors.ts";
import { Fields } from "../_shared/fields.ts";
import { answer, endpoint } from "../_shared/http.ts";
import { parseObject } from "../_shared/json.ts";
import { type Created, enqueue } from "../_shared/queueing.ts";
import { setting } from "../_shared/settings.ts";

const PROMPT = 4000;
const COLUMNS = "id,status,metadata";
const ENDED = ["completed", "failed", "cancelled"];
const PAUSES_MS = [250, 250, 500, 500, 1000];

Deno.serve(endpoint("enhance-prompt", {}, async (request, body) => {
  const user = await userOf(request);
  await countCall(user, "enhance-prompt");
  const fields = new Fields(parseObject(body));
  const prompt = fields.text("prompt", PROMPT)?.trim();
  if (!prompt) throw wrongField("prompt", "prompt is missing: write what should be described.");
  const media = fields.choice("media", ["image", "video"]) ?? "image";
  const made = await call<Created>("create_job", {
    p_user: user,
    p_request: { job_type: "enhance_prompt", prompt, metadata: { media } },
  });
  const waits = await queued(made);
  const row = waits ? await ending(user, made.job.id) : undefined;
  const text = row?.metadata["enhanced_prompt"];
  const enhanced = row?.status === "completed" && typeof text === "string" && text !== prompt;
  return answer({
    success: true,
    enhanced,
    prompt: enhanced ? text : prompt,
    original_prompt: prompt,
    job_id: made.job.id,
    reason: enhanced ? undefined : !waits ? "queue" : row === undefined ? "time" : "failed",
  });
}));

/** False where the queue does not take it: the user's own words will do. */
async function queued(made: Created): Promise<boolean> {
  try {
    await enqueue(made);
    return true;
  } catch (error) {
    if (error instanceof Refusal && error.details.code === "queue") return false;
    throw error;
  }
}

/** The job's row once it has ended; undefined when time is up, and then nobody makes it any more. */
async function ending(user: string, job: string): Promise<Row | undefined> {
  const seconds = Math.min(Number(setting("ENHANCE_WAIT_SECONDS") ?? 25) || 25, 120);
  const until = performance.now() + seconds * 1000;
  for (let turn = 0; performance.now() < until; turn++) {
    await sleep(Math.min(PAUSES_MS[turn] ?? 1000, until - performance.now()));
    const row = await jobOf(user, job, COLUMNS);
    if (row === undefined || ENDED.includes(row.status)) return row;
  }
  return await takenBack(user, job) ? undefined : await jobOf(user, job, COLUMNS);
}

/** False for a job that ended at the last moment. */
async function takenBack(user: string, job: string): Promise<boolean> {
  try {
    await cancel(user, job);
    return true;
  } catch (error) {
    if (error instanceof Refusal && error.details.code === "ended") return false;
    throw error;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
