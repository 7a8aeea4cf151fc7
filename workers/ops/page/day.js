// Plots of the past, from the rows that the supervisor writes each minute.

import { at, choices, element, say, show } from "./dom.js";
import { Plot } from "./plot.js";
import { get } from "./server.js";
import { seconds } from "./words.js";

const RANGES = [["1", "1 h"], ["6", "6 h"], ["24", "24 h"], ["168", "7 days"]];
const [DONE, FAILED, WORK, WAIT] = [0, 1, 2, 3];
const number = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1));

const throughput = new Plot("Throughput", "jobs", number);
const latency = new Plot("Latency", "mean of the delivered jobs, seconds", seconds);
const depth = new Plot("Queues", "jobs that wait", number);
const card = new Plot("Card", "% of the time", (value) => `${Math.round(value)} %`);
const types = element("select", { id: "day-type" }, element("option", { value: "" }, "All types"));
const problem = element("p", { class: "problem", role: "alert", hidden: true });

let hours = null;
let past = { seconds: 60, rows: [] };
let kinds = [];
let ranges;

export function openDay() {
  ranges = choices("How far back", RANGES, "24", (value) => {
    hours = Number(value);
    readDay();
  });
  types.addEventListener("change", draw);
  const picker = element("label", { class: "picker" }, element("span", { class: "unseen" }, "Job type of throughput and latency"), types);
  at("day").firstElementChild.append(picker, ranges.node);
  at("day").append(problem, element("div", { class: "plots" }, throughput.node, latency.node, depth.node, card.node));
}

export function setTypes(status) {
  kinds = status.queues.map((queue) => queue.kind);
  const names = status.types.map((row) => row.type);
  if (types.options.length === names.length + 1) return;
  types.replaceChildren(types.options[0], ...names.map((name) => element("option", { value: name }, name)));
}

export async function readDay() {
  try {
    const wanted = hours || 24;
    const found = await get(`/history?hours=${wanted}`);
    const first = found.rows.length ? found.rows[0].t : 0;
    if (hours === null && first > Date.now() / 1000 - 3300) return await zoom(1);
    past = { ...found, hours: wanted };
    show(problem, false);
    draw();
  } catch (error) {
    say(problem, `The past cannot be read: ${error.message}`);
    show(problem, error.status !== 401);
  }
}

/** A machine that began just now has its first hour before it has a day. */
async function zoom(to) {
  hours = to;
  ranges.press(String(to));
  return readDay();
}

/** What the rows of the last day come to, and up to when. */
export async function tally() {
  const { rows } = await get("/history?hours=24");
  const sum = (place) => rows.reduce((total, row) => total + of(row, "", place), 0);
  const last = rows.at(-1);
  return { done: sum(DONE), failed: sum(FAILED), until: last ? last.until : 0 };
}

function of(row, type, place) {
  const counts = type ? [row.jobs[type]] : Object.values(row.jobs);
  return counts.reduce((sum, each) => sum + (each ? each[place] : 0), 0);
}

function draw() {
  const { rows } = past;
  const type = types.value;
  const now = Date.now() / 1000;
  const frame = { times: rows.map((row) => row.t), seconds: past.seconds, from: now - (past.hours || 24) * 3600, until: now };
  const column = (name, tone, value) => ({ name, tone, kind: "column", values: rows.map(value) });
  const line = (name, tone, value) => ({ name, tone, kind: "line", values: rows.map(value) });
  const mean = (place) => (row) => (of(row, type, DONE) ? of(row, type, place) / of(row, type, DONE) : null);
  const unit = past.seconds === 60 ? "jobs in a minute" : `jobs in ${past.seconds / 60} minutes`;
  say(throughput.node.querySelector("figcaption .soft"), unit);
  throughput.svg.setAttribute("aria-label", `Throughput, ${unit}`);
  throughput.set({ ...frame, series: [column("delivered", "done", (row) => of(row, type, DONE)), column("failed", "bad", (row) => of(row, type, FAILED))] });
  latency.set({ ...frame, series: [line("work", "done", mean(WORK)), line("wait", "wait", mean(WAIT))] });
  depth.set({ ...frame, series: kinds.map((kind) => line(kind, kind, (row) => (row.queues[kind] || [null])[0])) });
  const whole = (row) => Math.max(1, row.seconds, kinds.reduce((sum, kind) => sum + (row.busy[kind] || 0), 0));
  const share = (kind) => (row) => (100 * (row.busy[kind] || 0)) / whole(row);
  card.set({ ...frame, most: 100, series: kinds.map((kind) => column(kind, kind, share(kind))) });
}
