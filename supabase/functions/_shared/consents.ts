/** Consents, signed for the workers: for one user, these very pictures, and until then. */

import { hmacHex, sha256Hex, utf8 } from "./bytes.ts";
import { call } from "./database.ts";
import type { JsonObject } from "./json.ts";
import type { Created } from "./queueing.ts";
import { setting } from "./settings.ts";
import { read } from "./storage.ts";

const BUCKET = "reference_images";

/**
 * The message, with a signature where an adult job depends on consents. Raises a 409 for a picture that is not the one
 * that was verified, and `Unreachable`. Without the secret nothing is signed, and the workers refuse the picture.
 */
export async function covered({ job, payload, consent }: Created): Promise<JsonObject> {
  const secret = setting("CONSENT_SECRET");
  if (consent === null || secret === undefined) return payload;
  const files = await Promise.all(
    consent.paths.map(async (path) => await sha256Hex(await read({ bucket: BUCKET, path }))),
  );
  const each = [...new Set(files)].sort().join(",");
  const terms = `consent.v1|${payload.consent_id}|${job.user_id}|${consent.expires_at}|${each}`;
  const signature = await hmacHex(utf8(secret), utf8(terms));
  const signed = { expires_at: consent.expires_at, signature };
  return await call<JsonObject>("keep_consent", { p_job: job.id, p_consent: signed });
}
