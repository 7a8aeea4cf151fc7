/** Requests to services of ours. */

/** Answered in time or not at all, and by nobody else: keys must not follow a redirect. Raises as `fetch`. */
export function ask(url: string, init: RequestInit = {}, patienceMs = 10_000): Promise<Response> {
  return fetch(url, { ...init, redirect: "error", signal: AbortSignal.timeout(patienceMs) });
}
