/** A user takes a job back: first in the database, then by the mark that the workers look for. */

import { userOf } from "../_shared/auth.ts";
import { countCall, noSuchJob } from "../_shared/database.ts";
import { Fields } from "../_shared/fields.ts";
import { answer, endpoint } from "../_shared/http.ts";
import { parseObject } from "../_shared/json.ts";
import { cancel } from "../_shared/cancelling.ts";

Deno.serve(endpoint("cancel-job", {}, async (request, body) => {
  const user = await userOf(request);
  await countCall(user, "cancel-job");
  const job = new Fields(parseObject(body)).uuid("job_id");
  if (job === undefined) throw noSuchJob();
  await cancel(user, job);
  return answer({ success: true, job_id: job, cancelled: true, status: "cancelled", message: "Job cancelled" });
}));
