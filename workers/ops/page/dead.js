// Jobs that were given up. Reading the list asks Redis, so it is read when it may have changed, not each second.

import { announce, at, confirmed, element, say, show } from "./dom.js";
import { get, post } from "./server.js";
import { ago, count, short } from "./words.js";

const list = element("ul", { class: "dead" });
const note = element("p", { class: "none" });
const again = element("button", { type: "button", class: "quiet small", onclick: () => readDead() }, "Read again");
const number = element("p", { class: "soft" });
let reading = false;

export function openDead() {
  const section = at("dead");
  section.firstElementChild.append(number, again);
  section.append(note, list);
  say(note, "Reading the list …");
}

export async function readDead() {
  if (reading) return;
  reading = true;
  again.disabled = true;
  try {
    draw(await get("/dead"));
  } catch (error) {
    if (error.status !== 401) say(note, `The list cannot be read: ${error.message}`);
    show(note, true);
  } finally {
    reading = again.disabled = false;
  }
}

/** "3 min ago" ages. */
export function drawDeadAges() {
  for (const time of list.querySelectorAll("time")) say(time, ago(time.dateTime, Date.now()));
}

function draw(entries) {
  const focused = list.contains(document.activeElement) && document.activeElement.closest("li").dataset.id;
  list.replaceChildren(...entries.map(item));
  say(note, "Nothing was given up. Jobs that failed for good, or could not be read, would wait here.");
  tell();
  const back = focused && [...list.children].find((each) => each.dataset.id === focused);
  if (back) back.querySelector("button").focus();
}

function tell() {
  say(number, list.children.length ? count(list.children.length, "job", "jobs") : "");
  show(note, list.children.length === 0);
}

function item(entry) {
  const answer = element("p", { class: "answer", role: "status" });
  const name = entry.job_id ? short(entry.job_id) : "a message without an id";
  const line = element(
    "li",
    { "data-id": entry.id },
    element(
      "div",
      { class: "words" },
      element("p", { class: "reason" }, entry.reason),
      element("p", { class: "soft" }, element("code", { title: entry.job_id || entry.id }, name), ` · ${entry.queue} · `,
        element("time", { datetime: entry.at, title: new Date(entry.at).toLocaleString("en-GB") }, ago(entry.at, Date.now()))),
      answer,
    ),
  );
  const requeue = element("button", { type: "button", class: "quiet small", "aria-label": `Requeue ${name}` }, "Requeue");
  const replay = element("button", { type: "button", class: "quiet small", "aria-label": `Replay callback of ${name}` }, "Replay callback");
  requeue.addEventListener("click", () => putBack(entry, line, answer, name));
  replay.addEventListener("click", () => send(entry, answer, name));
  line.append(element("div", { class: "buttons" }, requeue, entry.job_id && replay));
  return line;
}

async function putBack(entry, line, answer, name) {
  const asked = `${name} goes to the end of ${entry.queue} with all counts at zero, and is made from the beginning.`;
  if (!(await confirmed("Put this job back?", asked, "Requeue"))) return;
  const done = await attempt(answer, `/dead/${encodeURIComponent(entry.id)}/requeue`, ({ queue }) => `${name} is back on ${queue}.`);
  if (!done) return;
  const next = line.nextElementSibling || line.previousElementSibling;
  line.remove();
  tell();
  if (next) next.querySelector("button").focus();
  else at("dead").focus();
}

async function send(entry, answer, name) {
  const asked = `The remembered result of ${name} is told to the project once more. The job stays on this list.`;
  if (!(await confirmed("Replay the callback?", asked, "Replay"))) return;
  const path = `/jobs/${encodeURIComponent(entry.job_id)}/replay`;
  await attempt(answer, path, ({ status }) => `The callback of ${name} was accepted as ${status}.`);
}

async function attempt(answer, path, told) {
  answer.dataset.tone = "";
  say(answer, "One moment …");
  try {
    const sentence = told(await post(path));
    answer.dataset.tone = "good";
    say(answer, sentence);
    announce(sentence);
    return true;
  } catch (error) {
    answer.dataset.tone = "bad";
    say(answer, error.message);
    return false;
  }
}
