/** Who sends a request. */

import { isUuid } from "./fields.ts";
import { unknownToken, verified } from "./jwt.ts";

/** The id of the signed-in user. Keys of the project, even the service key, are nobody's token. */
export async function userOf(request: Request): Promise<string> {
  const [scheme, token, ...more] = (request.headers.get("authorization") ?? "").trim().split(/\s+/);
  if (scheme?.toLowerCase() !== "bearer" || token === undefined || more.length > 0) throw unknownToken();
  const { sub, role, aud } = await verified(token);
  const audience = Array.isArray(aud) ? aud : [aud];
  if (role !== "authenticated" || !isUuid(sub)) throw unknownToken();
  if (aud !== undefined && !audience.includes("authenticated")) throw unknownToken();
  return sub;
}
