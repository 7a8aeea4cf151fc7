/** A signed-in user's wish becomes a job: checked and counted in the database, then pushed for the workers. */

import { userOf } from "../_shared/auth.ts";
import { call, countCall } from "../_shared/database.ts";
import { Fields } from "../_shared/fields.ts";
import { answer, endpoint } from "../_shared/http.ts";
import { parseObject } from "../_shared/json.ts";
import { type Created, enqueue } from "../_shared/queueing.ts";
import { wish } from "./wish.ts";

Deno.serve(endpoint("queue-job", {}, async (request, body) => {
  const user = await userOf(request);
  await countCall(user, "queue-job");
  const fields = new Fields(parseObject(body));
  const draft = fields.uuid("promote");
  const made = draft === undefined
    ? await call<Created>("create_job", { p_user: user, p_request: wish(fields, request.headers) })
    : await call<Created>("promote_job", { p_user: user, p_job: draft });
  await enqueue(made);
  return answer({
    success: true,
    job: made.job,
    jobId: made.job.id,
    created: made.created,
    queueLength: made.waiting,
    position: made.position,
    estimatedSeconds: made.estimate_seconds,
    creditsLeft: made.credits_left,
    message: made.created ? "Job queued successfully" : "This job was queued before",
  });
}));
