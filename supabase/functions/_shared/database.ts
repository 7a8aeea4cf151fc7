/** The database through PostgREST, with the service key. Who may do what is decided there, in SQL. */

import { ask } from "./ask.ts";
import { Refusal, Unreachable } from "./errors.ts";
import type { Json, JsonObject } from "./json.ts";
import { keyHeaders, projectUrl, serviceKey } from "./settings.ts";

export interface Row {
  id: string;
  status: "queued" | "processing" | "completed" | "failed" | "cancelled";
  metadata: JsonObject;
  [column: string]: Json;
}

/** Call one of the functions that supabase/README.md lists. Raises its refusals as they are meant for the user. */
export async function call<T>(name: string, args: JsonObject): Promise<T> {
  const response = await request(`rpc/${name}`, { method: "POST", body: JSON.stringify(args) });
  return (await understood(name, response)) as T;
}

/** The job, if it is this user's. */
export async function jobOf(user: string, job: string, columns: string): Promise<Row | undefined> {
  const query = new URLSearchParams({ id: `eq.${job}`, user_id: `eq.${user}`, select: columns });
  const rows = (await understood("jobs", await request(`jobs?${query}`, {}))) as Row[];
  return rows[0];
}

/** One call against the user's rate, or a 429. */
export async function countCall(user: string, action: string): Promise<void> {
  const taken = await call<{ allowed: boolean; retry_after: number }>("take_token", { p_user: user, p_action: action });
  if (taken.allowed) return;
  const wait = Math.max(1, Math.ceil(taken.retry_after));
  throw new Refusal(429, `Too many requests. Please wait ${wait} s.`, { code: "rate", retryAfter: wait });
}

export function noSuchJob(): Refusal {
  return new Refusal(404, "There is no such job.", { code: "unknown_job" });
}

async function request(path: string, init: RequestInit): Promise<Response> {
  const headers = { ...keyHeaders(serviceKey()), "Content-Type": "application/json" };
  const url = `${projectUrl()}/rest/v1/${path}`;
  try {
    return await ask(url, { ...init, headers });
  } catch {
    throw new Unreachable("the database did not answer");
  }
}

async function understood(what: string, response: Response): Promise<unknown> {
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    throw new Unreachable(`the database's answer to ${what} was not understood (${response.status})`);
  }
  if (response.ok) return body;
  throw meaning(what, response.status, body as { code?: string; message?: string; details?: string; hint?: string });
}

/** `PTnnn` is a refusal of ours. Of anything else the code is logged, never the text: that may quote a prompt. */
function meaning(
  what: string,
  status: number,
  error: { code?: string; message?: string; details?: string; hint?: string },
): Error {
  const refused = /^PT([45]\d\d)$/.exec(error.code ?? "");
  if (refused === null) {
    return new Unreachable(`the database answered ${status} (${error.code ?? "no code"}) to ${what}`);
  }
  const details = { ...(error.hint ? { code: error.hint } : {}) };
  const wait = error.hint === "quota" || error.hint === "closed" ? { retryAfter: Number(error.details) || 60 } : {};
  const field = error.hint === "invalid" && error.details ? { field: error.details } : {};
  return new Refusal(Number(refused[1]), error.message ?? "Refused.", { ...details, ...wait, ...field });
}
