/** The queue: Redis behind the Upstash REST API. */

import { ask } from "./ask.ts";
import type { JsonObject } from "./json.ts";
import { required, setting } from "./settings.ts";

const PATIENCE_MS = 5000;
const DAY_S = 86_400;

/** `refused` means for certain that nothing happened, `unknown` that it may have. */
export class QueueError extends Error {
  constructor(readonly outcome: "refused" | "unknown", message: string) {
    super(message);
  }
}

type Command = (string | number)[];
type Reply = { result?: unknown; error?: string };

/** Hand a job to the workers and wake them; the length of the queue. Raises `QueueError`. */
export async function push(queue: string, payload: JsonObject): Promise<number> {
  const end = setting("QUEUE_TAKE_FROM") === "head" ? "RPUSH" : "LPUSH";
  const [pushed] = await pipeline([[end, queue, JSON.stringify(payload)], ["PUBLISH", `wake:${queue}`, "1"]]);
  if (typeof pushed?.result === "number") return pushed.result;
  throw new QueueError("refused", "the queue refused the job");
}

/** The mark at which the workers drop a job: waiting ones unseen, one being made at its next beat. */
export async function markCancelled(job: string): Promise<void> {
  await pipeline([["SET", `cancel:${job}`, "1", "EX", DAY_S]]);
}

/** What the worker that makes a job says of it, as JSON text. */
export async function progressOf(job: string): Promise<string | undefined> {
  const [reply] = await pipeline([["GET", `progress:${job}`]]);
  return typeof reply?.result === "string" ? reply.result : undefined;
}

async function pipeline(commands: Command[]): Promise<Reply[]> {
  const response = await send(commands);
  if (!response.ok) {
    await response.body?.cancel();
    throw new QueueError("refused", `the queue answered ${response.status}`);
  }
  try {
    const replies = await response.json();
    if (Array.isArray(replies) && replies.length === commands.length) return replies;
  } catch {
    // said below
  }
  throw new QueueError("unknown", "the queue's answer was not understood");
}

/** A broken connection is tried once more, since nothing here does harm twice: workers make a job that waits twice once. */
async function send(commands: Command[], again = true): Promise<Response> {
  const url = required("UPSTASH_REDIS_REST_URL").replace(/\/+$/, "");
  const headers = {
    "Authorization": `Bearer ${required("UPSTASH_REDIS_REST_TOKEN")}`,
    "Content-Type": "application/json",
  };
  const body = JSON.stringify(commands);
  try {
    return await ask(`${url}/pipeline`, { method: "POST", headers, body }, PATIENCE_MS);
  } catch (error) {
    const late = error instanceof Error && error.name === "TimeoutError";
    if (again && !late) return await send(commands, false);
    const unsent = error instanceof Error && /\(Connect\)|dns error/i.test(`${error.message} ${error.cause}`);
    throw new QueueError(unsent ? "refused" : "unknown", "the queue did not answer");
  }
}
