/** How a worker's word becomes rows: signature, then one transaction in the database. */

import { call } from "../_shared/database.ts";
import { answer, endpoint } from "../_shared/http.ts";
import { parseObject } from "../_shared/json.ts";
import { authentic } from "../_shared/signature.ts";
import { type Place, remove } from "../_shared/storage.ts";

const MOST = 262_144;

interface Received {
  outcome: "applied" | "duplicate" | "skipped";
  job_id: string;
  status: string;
  discard?: Place[];
}

/** Whatever will not change by repetition is a 2xx or a 4xx: workers repeat after 5xx, and after 401 with an alarm. */
Deno.serve(endpoint("job-callback", { most: MOST }, async (request, body) => {
  const id = await authentic(request.headers, body);
  const said = parseObject(body);
  const received = await call<Received>("receive_callback", { p_body: said, p_webhook_id: id });
  await remove(received.discard ?? []);
  return answer({
    success: true,
    job_id: received.job_id,
    status: received.status,
    outcome: received.outcome,
    skipped: received.outcome === "applied" ? undefined : true,
    message: "Job callback processed successfully",
  });
}));
