// The last jobs: what came of them, how long each phase took, and their files where these may be seen.

import { announce, at, choices, confirmed, element, say, show } from "./dom.js";
import { post } from "./server.js";
import { ORDER, ago, bytes, phaseWord, seconds, short } from "./words.js";
import { drawMedia, playClips } from "./media.js";

const MOST = 50;
const FIRST = 8;
const FILTERS = {
  all: () => true,
  images: (job) => !isClip(job) && job.status === "completed",
  clips: (job) => isClip(job) && job.status === "completed",
  failed: (job) => job.status === "failed",
};
const WORDS = { completed: ["delivered", "good"], failed: ["failed", "bad"], cancelled: ["cancelled", "off"] };

const cards = new Map();
let jobs = [];
let shown = FIRST;
let filter = "all";
let pictures = false;

const list = element("div", { class: "jobs" });
const none = element("p", { class: "none" });
const more = element("button", { type: "button", class: "quiet more" });
const hint = element("p", { class: "soft" });
const keyOf = (job) => `${job.job} ${job.at}`;
const isClip = (job) => String(job.type).includes("video");

export function openJobs() {
  const filters = choices("Which jobs", [["all", "All"], ["images", "Images"], ["clips", "Clips"], ["failed", "Failed"]], filter, (value) => {
    filter = value;
    shown = FIRST;
    draw();
  });
  more.addEventListener("click", () => {
    shown = MOST;
    draw();
  });
  const section = at("jobs");
  section.firstElementChild.append(filters.node, playClips);
  section.append(hint, none, list, more);
}

export function setJobs(status) {
  jobs = status.jobs.slice();
  pictures = Boolean(status.pictures);
  say(hint, pictures ? "" : "Files are not shown here. OPS_PICTURES shows them to whoever may open this page.");
  draw();
}

export function addJob(job) {
  if (jobs.some((known) => keyOf(known) === keyOf(job))) return;
  jobs = [job, ...jobs].slice(0, MOST);
  announce(`${job.type} ${(WORDS[job.status] || [job.status])[0]}.`);
  draw();
}

export const endOf = (id) => jobs.find((job) => job.job === id);
export const endedSince = (epoch) => jobs.filter((job) => Date.parse(job.at) / 1000 >= epoch);

/** "3 min ago" ages. */
export function drawAges() {
  for (const { job, age } of cards.values()) say(age, ago(job.at, Date.now()));
}

function draw() {
  const wanted = jobs.filter(FILTERS[filter]);
  const visible = wanted.slice(0, shown);
  const keys = new Set(visible.map((job) => keyOf(job) + pictures));
  for (const [key, { node }] of cards) {
    if (!keys.has(key)) {
      node.remove();
      cards.delete(key);
    }
  }
  visible.forEach((job, place) => {
    const key = keyOf(job) + pictures;
    if (!cards.has(key)) cards.set(key, card(job));
    const { node } = cards.get(key);
    if (list.children[place] !== node) list.insertBefore(node, list.children[place] || null);
  });
  say(none, jobs.length ? "No job of the last ones is of this kind." : "No job has ended yet. Those that do appear here at once.");
  show(none, wanted.length === 0);
  show(hint, !pictures && jobs.some((job) => job.files.length));
  show(more, wanted.length > shown);
  say(more, `Show ${wanted.length - visible.length} more`);
  drawAges();
}

function card(job) {
  const [word, tone] = WORDS[job.status] || [job.status, "off"];
  const age = element("time", { datetime: job.at, title: new Date(job.at).toLocaleString("en-GB") });
  const problem = element("p", { class: "answer", role: "status" });
  const replay = element("button", { type: "button", class: "quiet small", onclick: () => send(job, problem) }, "Replay callback");
  const node = element(
    "article",
    { class: "job", "aria-label": `${job.type}, ${word}` },
    drawMedia(job, pictures),
    element(
      "div",
      { class: "words" },
      element("div", { class: "line" }, element("h3", {}, job.type), element("span", { class: "state", "data-tone": tone }, word)),
      element("p", { class: "soft" }, element("code", { title: job.job }, short(job.job)), " · ", age),
      job.reason && element("p", { class: "reason" }, job.reason, job.error_type && element("span", { class: "soft" }, ` (${job.error_type})`)),
      ...phases(job),
      element("p", { class: "soft" }, facts(job)),
      element("div", { class: "line" }, replay, problem),
    ),
  );
  return { node, job, age };
}

function phases(job) {
  const rank = ([phase]) => (ORDER.indexOf(phase) + 99) % 99;
  const known = Object.entries(job.timings)
    .filter(([phase, value]) => value >= 0.005 && phase !== "wait")
    .sort((a, b) => rank(a) - rank(b));
  if (!known.length) return [];
  const told = known.map(([phase, value]) => `${phaseWord(phase)} ${seconds(value)}`);
  const total = known.reduce((sum, [, value]) => sum + value, 0);
  const bar = element(
    "div",
    { class: "bar", role: "img", "aria-label": `Phases: ${told.join(", ")}` },
    known.map(([phase, value], i) => element("i", { "data-phase": phase, vars: { "--s": value / total }, title: told[i] })),
  );
  const longest = known.slice().sort((a, b) => b[1] - a[1]).slice(0, 3).map(([phase]) => phase);
  const legend = known.filter(([phase]) => longest.includes(phase));
  const entry = ([phase, value]) => element("li", { "data-phase": phase }, `${phaseWord(phase)} ${seconds(value)}`);
  return [bar, element("ul", { class: "legend", "aria-hidden": "true" }, legend.map(entry))];
}

function facts(job) {
  const { width, height, frames, steps } = job.facts;
  const size = job.files.reduce((sum, file) => sum + file.bytes, 0);
  const told = [
    `${seconds(job.work)} of work`,
    job.wait >= 0.05 && `waited ${seconds(job.wait)}`,
    width && `${job.files.length > 1 ? `${job.files.length} × ` : ""}${width}×${height}`,
    frames > 1 && `${frames} frames`,
    steps && `${steps} steps`,
    size > 0 && bytes(size),
    job.attempt > 1 && `attempt ${job.attempt}`,
  ];
  return told.filter(Boolean).join(" · ");
}

async function send(job, problem) {
  const asked = `The result of ${short(job.job)} is told to the project once more, as it was told the first time.`;
  if (!(await confirmed("Replay the callback?", asked, "Replay"))) return;
  try {
    const { status } = await post(`/jobs/${encodeURIComponent(job.job)}/replay`);
    say(problem, `Sent: ${status}.`);
    problem.dataset.tone = "good";
  } catch (error) {
    say(problem, error.message);
    problem.dataset.tone = "bad";
  }
}
