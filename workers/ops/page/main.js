// Puts the page together: one state, one stream of changes, one keyboard.

import { announce, at, element, say, show } from "./dom.js";
import { openDay, readDay, setTypes, tally } from "./day.js";
import { drawDeadAges, openDead, readDead } from "./dead.js";
import { addJob, drawAges, endedSince, openJobs, setJobs } from "./jobs.js";
import { drawLanes } from "./lanes.js";
import { openViewer, toggleClips } from "./media.js";
import { follow, unlock } from "./server.js";
import { drawOwn, focusPrompt, openSubmit } from "./submit.js";
import { drawCosts, drawTypes } from "./tables.js";
import { count, gravity, headline, money, percent, seconds } from "./words.js";

const THEMES = ["auto", "light", "dark"];
const SECTIONS = ["now", "jobs", "dead", "day", "costs", "types"];
const DEAD_SETTLES_MS = 1500;
let state = null;
let day = { done: 0, failed: 0, until: 0 };

const on = {
  whole(status) {
    state = status;
    connected(true);
    say(at("host"), status.host);
    openSubmit(status);
    setJobs(status);
    setTypes(status);
    drawNow();
    drawSums();
    readDay();
    readDead();
    readTally();
  },
  live(now) {
    if (!state) return;
    Object.assign(state, now);
    connected(true);
    drawNow();
  },
  job(job) {
    if (!state) return;
    addJob(job);
    drawNow();
    if (job.status === "failed") setTimeout(readDead, DEAD_SETTLES_MS);
  },
  types({ types, estimates }) {
    if (!state) return;
    Object.assign(state, { types, estimates });
    drawTypes(state);
  },
  minute({ types, estimates, costs }) {
    if (!state) return;
    Object.assign(state, { types, estimates, costs });
    drawSums();
    readTally();
    readDay();
  },
  lost(sentence) {
    connected(false, sentence);
  },
  locked: askForToken,
};

async function readTally() {
  try {
    day = await tally();
    drawFigures();
  } catch {
    // the stream's end tells that the server is gone
  }
}

function drawNow() {
  const words = headline(state);
  say(at("headline"), words);
  at("headline").dataset.tone = gravity(state);
  const paused = state.queues.filter((queue) => queue.paused).map((queue) => `The ${queue.kind} queue is paused.`);
  say(at("aside"), paused.join(" "));
  show(at("aside"), paused.length > 0);
  drawLanes(state);
  drawOwn(state.workers);
  drawAges();
  drawDeadAges();
  drawFigures();
  const busy = state.workers.filter((worker) => worker.job && worker.percent !== null).map((worker) => `${worker.kind} ${worker.percent} %`);
  document.title = `${state.ready ? "" : "⚠ "}${busy.length ? `${busy.join(", ")} · ` : ""}OurVidz workers`;
}

function drawFigures() {
  const recent = endedSince(day.until);
  const done = day.done + recent.filter((job) => job.status === "completed").length;
  const failed = day.failed + recent.filter((job) => job.status === "failed").length;
  const { costs, queues, idle_share: idle } = state;
  const waits = queues.every((queue) => queue.waiting === null) ? null : queues.reduce((sum, queue) => sum + (queue.waiting || 0), 0);
  const longest = Math.max(0, ...queues.filter((queue) => queue.waiting).map((queue) => queue.oldest || 0));
  const spent = [costs.wasted, costs.idle, ...Object.values(costs.types)].reduce((sum, part) => sum + part.money, 0);
  const told = [
    ["waiting", waits === null ? "–" : String(waits), longest ? `the first for ${seconds(Math.round(longest))}` : "in both queues"],
    ["delivered", done.toLocaleString("en"), "in the last day"],
    ["failed", failed.toLocaleString("en"), done + failed ? `${percent(done / (done + failed))} succeeded` : "in the last day"],
    ["card at work", percent(idle.ten_minutes === null ? null : 1 - idle.ten_minutes), "of ten minutes"],
    ...(costs.price > 0 ? [["spent", money(spent), "in the last day"]] : []),
  ];
  const text = JSON.stringify(told);
  if (at("figures").dataset.told === text) return;
  at("figures").dataset.told = text;
  at("figures").replaceChildren(...told.map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value), element("dd", { class: "soft" }, note))));
}

function drawSums() {
  drawCosts(state.costs);
  drawTypes(state);
  say(at("foot"), `${count(state.workers.length, "worker", "workers")} on ${state.host}. The supervisor began ${seconds(state.up)} before this page was opened.`);
}

function connected(well, sentence = "") {
  const link = at("link");
  if (well && link.dataset.tone === "bad") announce("Connected again.");
  link.dataset.tone = well ? "good" : "bad";
  say(link, well ? "live" : "not live");
  say(at("banner"), well ? "" : `${sentence} What is shown is as it was; trying again …`);
  show(at("banner"), !well);
  document.body.classList.toggle("stale", !well);
}

/** Resolves when the server took the token. */
function askForToken() {
  const dialog = at("token");
  const form = dialog.querySelector("form");
  say(at("link"), "locked");
  return new Promise((resolve) => {
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await unlock(at("token-field").value);
      } catch (error) {
        say(at("token-problem"), error.status === 401 ? "This is not the token." : error.message);
        at("token-field").select();
        return;
      }
      at("token-field").value = "";
      say(at("token-problem"), "");
      dialog.close();
      resolve();
    };
    if (!dialog.open) dialog.showModal();
  });
}

function wear(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  say(at("theme"), theme.charAt(0).toUpperCase() + theme.slice(1));
  at("theme").setAttribute("aria-label", `Theme: ${theme}`);
}

const nextTheme = () => wear(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);

function go(id) {
  at(id).scrollIntoView();
  at(id).focus({ preventScroll: true });
}

const KEYS = { t: nextTheme, r: readDead, p: toggleClips, n: focusPrompt, "?": () => at("help").showModal() };

function pressed(event) {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !at("keys-on").checked) return;
  const section = SECTIONS[Number(event.key) - 1];
  const act = section ? () => go(section) : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

wear(THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");
at("theme").addEventListener("click", nextTheme);
at("keys").addEventListener("click", () => at("help").showModal());
at("keys-on").checked = localStorage.getItem("keys") !== "off";
at("keys-on").addEventListener("change", ({ target }) => localStorage.setItem("keys", target.checked ? "on" : "off"));
addEventListener("keydown", pressed);
openJobs();
openDead();
openDay();
openViewer();
follow(on);
