/** Callbacks are believed by their signature over the exact bytes: Standard Webhooks, `X-Callback-Signature`, or both. */

import { type Bytes, concat, fromBase64, fromHex, hmacMatches, sameSecret, sha256Hex, utf8 } from "./bytes.ts";
import { Refusal } from "./errors.ts";
import { serviceKey, setting } from "./settings.ts";

const WINDOW_S = 300;
const LONGEST_ID = 256;

/**
 * The id by which a repetition of this message is known. Raises a 401.
 *
 * Each signature that is present must be right. `X-Callback-Signature` alone has neither id nor time: the bytes name
 * the message then. A deployment without a secret knows its workers by the service key, as July's did.
 */
export async function authentic(headers: Headers, body: Bytes): Promise<string> {
  const secret = setting("JOB_CALLBACK_SECRET");
  if (secret === undefined) {
    if (!(await holdsServiceKey(headers))) throw forged();
    return headers.get("webhook-id")?.slice(0, LONGEST_ID) ?? `body.${await sha256Hex(body)}`;
  }
  const [plain, standard] = [headers.get("x-callback-signature"), headers.get("webhook-signature")];
  if (plain === null && standard === null) throw forged();
  if (plain !== null && !(await plainMatches(plain, secret, body))) throw forged();
  return standard === null ? `body.${await sha256Hex(body)}` : await standardId(standard, secret, headers, body);
}

async function plainMatches(header: string, secret: string, body: Bytes): Promise<boolean> {
  const hex = header.startsWith("sha256=") ? header.slice("sha256=".length) : header;
  return await hmacMatches(utf8(secret), fromHex(hex), body);
}

async function standardId(header: string, secret: string, headers: Headers, body: Bytes): Promise<string> {
  const [id, time] = [headers.get("webhook-id") ?? "", headers.get("webhook-timestamp") ?? ""];
  if (!id || id.length > LONGEST_ID || !/^\d{1,12}$/.test(time)) throw forged();
  const key = secret.startsWith("whsec_") ? fromBase64(secret.slice("whsec_".length)) : utf8(secret);
  const signed = concat(utf8(`${id}.${time}.`), body);
  const offered = header.split(" ").filter((each) => each.startsWith("v1,")).slice(0, 8);
  const matches = offered.map((each) => hmacMatches(key ?? new Uint8Array(), fromBase64(each.slice(3)), signed));
  if (!(await Promise.all(matches)).includes(true)) throw forged();
  if (Math.abs(Date.now() / 1000 - Number(time)) > WINDOW_S) {
    throw new Refusal(401, "The callback's timestamp is more than five minutes off.", { code: "stale" });
  }
  return id;
}

async function holdsServiceKey(headers: Headers): Promise<boolean> {
  const key = serviceKey();
  const [header, expected] = key.startsWith("sb_") ? ["apikey", key] : ["authorization", `Bearer ${key}`];
  return await sameSecret(headers.get(header) ?? "", expected);
}

function forged(): Refusal {
  return new Refusal(401, "The callback's signature is missing or wrong.", { code: "signature" });
}
