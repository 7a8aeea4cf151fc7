// The one server that this page talks to: requests, and the stream of what happens.

const SILENT_MS = 12_000;
const WAITS_MS = [500, 1000, 2000, 4000, 8000];
let token = "";

/** An answer that is no success; `message` is a sentence for the operator. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path) => request("GET", path);
export const post = (path, body = {}) => request("POST", path, body);

async function request(method, path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) Object.assign(headers, { "X-Ourvidz": "1", "Content-Type": "application/json" });
  const options = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(30_000) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (!answer.ok) throw new Refused(answer.status, await sentence(answer));
  return answer.status === 204 ? null : answer.json();
}

async function sentence(answer) {
  const text = await answer.text();
  try {
    return String(JSON.parse(text).error);
  } catch {
    return text.length < 200 && text ? text : `The server answered ${answer.status}.`;
  }
}

/** Show the token once; the cookie that comes back opens pictures and the stream. Raises `Refused`. */
export async function unlock(shown) {
  token = shown;
  try {
    await post("/session");
  } catch (error) {
    if (error.status === 401) token = "";
    throw error;
  }
}

/**
 * Stay connected for ever. `on` has a function for each event of the stream, and: `whole(status)` after each
 * connection, `lost(sentence)` while there is none, `locked()`, which resolves when there is a token.
 */
export async function follow(on) {
  for (let failures = 0; ; failures += 1) {
    const opened = await stream(on);
    if (opened) failures = 0;
    try {
      await knock(on, opened || failures === 0);
    } catch (error) {
      if (error.status !== 401) on.lost(error.message);
      else {
        await on.locked();
        failures = 0;
      }
    }
    await pause(WAITS_MS[Math.min(failures, WAITS_MS.length - 1)]);
  }
}

/** Find out why there is no stream. A server that was started anew knows no cookie of before, but the same token. */
async function knock(on, fresh) {
  if (token) await unlock(token);
  const status = await get("/status");
  if (fresh) return;
  on.whole(status);
  on.lost("Too many pages are open; this one looks every few seconds.");
}

/** Resolves, when the stream has ended, with whether it had begun. */
function stream(on) {
  return new Promise((resolve) => {
    const source = new EventSource("/events");
    let opened = false;
    let timer = setTimeout(end, SILENT_MS);
    function end() {
      clearTimeout(timer);
      source.close();
      resolve(opened);
    }
    function heard() {
      clearTimeout(timer);
      timer = setTimeout(end, SILENT_MS);
    }
    source.onerror = end;
    source.onopen = async () => {
      opened = true;
      try {
        on.whole(await get("/status"));
      } catch {
        end();
      }
    };
    for (const name of ["live", "job", "types", "minute"]) {
      source.addEventListener(name, (event) => {
        heard();
        on[name](JSON.parse(event.data));
      });
    }
  });
}

/** Ends early when the machine wakes up or finds its network. */
function pause(ms) {
  return new Promise((resolve) => {
    const done = new AbortController();
    const end = () => {
      done.abort();
      resolve();
    };
    const timer = setTimeout(end, ms);
    done.signal.addEventListener("abort", () => clearTimeout(timer));
    addEventListener("online", end, { signal: done.signal });
    document.addEventListener("visibilitychange", () => document.hidden || end(), { signal: done.signal });
  });
}
