/** The outside that all functions share: CORS, methods, a bound on bodies, and one shape of answers. */

import { type Bytes, concat } from "./bytes.ts";
import { Refusal, Unreachable } from "./errors.ts";
import { setting } from "./settings.ts";

export type Handle = (request: Request, body: Bytes) => Promise<Response>;

const HEADERS = "authorization, x-client-info, apikey, content-type, idempotency-key, x-region";
const OURS = "Something went wrong on our side. Please try again.";

/** A function as the platform calls it. `most` bounds the body, in bytes. */
export function endpoint(
  name: string,
  { methods = ["POST"], most = 65_536 }: { methods?: string[]; most?: number },
  handle: Handle,
): (request: Request) => Promise<Response> {
  return async (request) => {
    const answered = await answerOf(name, methods, most, handle, request);
    for (const [header, value] of Object.entries(cors(request, methods))) answered.headers.set(header, value);
    return answered;
  };
}

export function answer(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { "Cache-Control": "no-store", ...headers } });
}

async function answerOf(
  name: string,
  methods: string[],
  most: number,
  handle: Handle,
  request: Request,
): Promise<Response> {
  try {
    if (request.method === "OPTIONS") return new Response(null, { status: 204 });
    if (!methods.includes(request.method)) throw new Refusal(405, `Use ${methods.join(" or ")}.`, { code: "method" });
    return await handle(request, await read(request, most));
  } catch (error) {
    if (error instanceof Refusal) return refused(error);
    const passing = error instanceof Unreachable;
    const reason = error instanceof Error ? error.message : "unknown";
    console.error(JSON.stringify({ event: passing ? "unreachable" : "fault", function: name, reason }));
    return refused(new Refusal(passing ? 503 : 500, OURS, passing ? { retryAfter: 5 } : {}));
  }
}

function refused({ status, message, details: { code, field, retryAfter } }: Refusal): Response {
  const headers: Record<string, string> = retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) };
  return answer({ success: false, error: message, code, field }, status, headers);
}

/** Any origin by default: callers are known by their token, which no browser sends by itself. */
function cors(request: Request, methods: string[]): Record<string, string> {
  const allowed = (setting("ALLOWED_ORIGINS") ?? "*").split(",").map((origin) => origin.trim());
  const origin = request.headers.get("origin");
  const granted = allowed.includes("*") ? "*" : allowed.find((each) => each === origin);
  return {
    ...(granted === undefined ? {} : { "Access-Control-Allow-Origin": granted }),
    "Access-Control-Allow-Headers": HEADERS,
    "Access-Control-Allow-Methods": [...methods, "OPTIONS"].join(", "),
    "Access-Control-Max-Age": "600",
    "Vary": "Origin",
  };
}

async function read(request: Request, most: number): Promise<Bytes> {
  const chunks: Uint8Array[] = [];
  let size = Number(request.headers.get("content-length") ?? 0) > most ? Infinity : 0;
  if (size <= most) {
    for await (const chunk of request.body ?? []) {
      size += chunk.length;
      if (size > most) break;
      chunks.push(chunk);
    }
  }
  if (size > most) throw new Refusal(413, `The request is larger than ${most / 1024} KiB.`, { code: "too_large" });
  return concat(...chunks);
}
