// Numbers and states as people read them.

export const MAKING = ["fetch", "enhance", "lora", "encode_text", "encode_image", "denoise", "decode", "watermark"];
export const ORDER = ["load", "convert", ...MAKING, "screen", "encode", "sign", "upload", "callback"];
const PHASES = {
  start: "starting",
  load: "loading weights",
  convert: "converting weights",
  warm_up: "warming up",
  fetch: "fetching references",
  enhance: "rewriting the prompt",
  lora: "merging LoRAs",
  encode_text: "reading the prompt",
  encode_image: "reading references",
  denoise: "denoising",
  decode: "decoding",
  watermark: "marking",
  screen: "checking",
  encode: "writing files",
  sign: "signing",
  upload: "uploading",
  callback: "reporting",
  unready: "unable to work",
};

export const phaseName = (phase) => PHASES[phase] || String(phase).replaceAll("_", " ");
export const phaseWord = (phase) => String(phase).replaceAll("_", " ");
export const short = (id) => String(id).slice(0, 8);
export const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 s";
  if (value < 0.995) return `${value.toFixed(2)} s`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 119.5) return `${Math.round(value)} s`;
  if (value < 3570) return value % 60 < 1 || value > 600 ? `${Math.round(value / 60)} min` : minutes(value);
  return value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${Math.round(value / 86400)} days`;
}

const minutes = (value) => `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;

/** Without fractions, for what changes every second. */
export const whole = (value) => (value < 119.5 ? `${Math.round(value)} s` : seconds(value));

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} GB`;
  return value >= 1e6 ? `${(value / 1e6).toFixed(1)} MB` : `${Math.round(value / 1e3)} kB`;
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  return `${(share * 100).toFixed(share > 0.99 && share < 1 ? 1 : 0)} %`;
}

export function money(value) {
  const digits = value > 0 && value < 1 ? 4 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export const clock = (epoch) => new Date(epoch * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
export const day = (epoch) => new Date(epoch * 1000).toLocaleDateString("en-GB", { weekday: "short", day: "numeric" });

export function ago(stamp, now) {
  const passed = Math.max(0, (now - Date.parse(stamp)) / 1000);
  if (passed < 5) return "just now";
  return passed < 60 ? `${Math.round(passed / 5) * 5} s ago` : `${seconds(passed < 3600 ? passed - (passed % 60) : passed)} ago`;
}

/** What to say of a worker: a word, its tone, and a sentence where something is to be explained. */
export function standing(worker) {
  const retry = worker.retry_in === null ? "soon" : `in ${whole(worker.retry_in)}`;
  const found = {
    starting: ["starting", "wait", `${capital(phaseName(worker.phase || "start"))}.`],
    "backing off": [`starts again ${retry}`, "warn", "Its process ended. Its jobs went back to the queue."],
    "breaker open": [`tries again ${retry}`, "bad", "It ended too often, or a setting is wrong: its log says which."],
    draining: ["draining", "wait", "It finishes what it makes and takes nothing new."],
    stopped: ["stopped", "off", "It was asked to stop."],
  }[worker.state];
  if (found) return found;
  if (worker.phase === "unready") return ["unable to work", "bad", "Its card or its models fail: its log says why."];
  if (!worker.ready) return ["silent", "bad", `No sign of life for ${whole(worker.age ?? 0)}.`];
  return worker.job ? ["at work", "busy", ""] : ["waiting for jobs", "good", ""];
}

/** How bad it is that not all is well: workers on their way are no alarm. */
export function gravity(state) {
  const tones = state.workers.map((worker) => standing(worker)[1]);
  return tones.includes("bad") ? "bad" : tones.includes("warn") ? "warn" : state.ready || tones.includes("wait") ? "" : "bad";
}

export function headline(state) {
  if (!state.ready) return troubles(state).join(" ");
  const busy = state.workers.filter((worker) => worker.job).map((worker) => worker.kind);
  return busy.length ? `All is well: ${busy.join(" and ")} at work.` : "All is well: the workers wait for jobs.";
}

const IS = { "backing off": "restarting", "breaker open": "held back" };

/** The server's sentences, and of workers the words that the page uses for them. */
function troubles(state) {
  const away = state.workers.filter((worker) => !worker.ready);
  const known = away.map((worker) => `The ${worker.kind} worker is ${IS[worker.state] || standing(worker)[0]}.`);
  const others = state.problems.filter((problem) => !away.some((worker) => problem.startsWith(`The ${worker.kind} worker `)));
  return [...known, ...others];
}

export function waiting(queue) {
  if (queue.waiting === null) return "nobody has looked yet";
  if (queue.waiting === 0) return "nobody waits";
  const first = queue.oldest === null ? "" : queue.waiting === 1 ? `, for ${whole(queue.oldest)}` : `, the first for ${whole(queue.oldest)}`;
  return `${count(queue.waiting, "job waits", "jobs wait")}${first}`;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
