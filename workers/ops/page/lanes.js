// What is true right now: a lane for each queue with its worker, and the card that they share.

import { announce, at, confirmed, element, say, show } from "./dom.js";
import { post } from "./server.js";
import { MAKING, bytes, capital, count, percent, phaseName, phaseWord, seconds, short, standing, waiting, whole } from "./words.js";

const lanes = new Map();
const BEHIND = 3;

export function drawLanes(state) {
  const box = at("lanes");
  if (box.hasAttribute("aria-busy")) {
    box.replaceChildren();
    box.removeAttribute("aria-busy");
  }
  for (const worker of state.workers) {
    if (!lanes.has(worker.kind)) {
      lanes.set(worker.kind, new Lane(worker.kind));
      box.append(lanes.get(worker.kind).node);
    }
    const queue = state.queues.find((each) => each.kind === worker.kind);
    lanes.get(worker.kind).draw(worker, queue, (state.estimates || {})[worker.type]);
  }
  drawCard(state.card, state.workers, state.idle_share);
}

class Lane {
  constructor(kind) {
    this.word = element("span", { class: "state" });
    this.why = element("p", { class: "why" });
    this.type = element("strong", { class: "what" });
    this.job = element("code", { class: "soft" });
    this.cancel = element("button", { type: "button", class: "quiet small", onclick: () => this.withdraw() }, "Cancel job");
    this.bar = element("div", { class: "bar live", role: "progressbar", "aria-label": `Progress of the ${kind} job` });
    this.phase = element("span");
    this.left = element("span", { class: "left" });
    this.making = element(
      "div",
      { class: "making" },
      element("div", { class: "line" }, this.type, this.job, this.cancel),
      this.bar,
      element("div", { class: "line" }, this.phase, this.left),
    );
    this.queue = element("span");
    this.seen = element("span", { class: "soft" });
    this.pause = element("button", { type: "button", class: "quiet small", onclick: () => this.toggle() });
    this.problem = element("p", { class: "problem", role: "alert" });
    this.facts = element("dl", { class: "facts" });
    this.kind = kind;
    this.node = element(
      "article",
      { class: "lane", "data-kind": kind, "aria-labelledby": `lane-${kind}` },
      element("div", { class: "line" }, element("h3", { id: `lane-${kind}` }, kind), this.word),
      element("div", { class: "stage" }, this.why, this.making),
      element("div", { class: "line queue" }, element("span", {}, element("b", {}, "Queue "), this.queue), this.seen, this.pause),
      this.problem,
      this.facts,
    );
  }

  draw(worker, queue, usual) {
    const [word, tone, sentence] = standing(worker);
    const making = worker.job !== null && worker.pid !== null && worker.state !== "starting";
    say(this.word, word);
    this.word.dataset.tone = tone;
    say(this.why, sentence || (making ? "" : idle(queue)));
    show(this.why, this.why.textContent !== "");
    show(this.making, making);
    if (making) this.drawJob(worker, usual);
    if (queue) this.drawQueue(queue);
    this.drawFacts(worker);
  }

  drawJob(worker, usual) {
    this.id = worker.job;
    say(this.type, worker.type || "a job");
    say(this.job, short(worker.job));
    this.job.title = worker.job;
    const steps = worker.steps ? `step ${worker.step} of ${worker.steps}` : "";
    const share = worker.percent === null ? "" : `${worker.percent} %`;
    const told = [capital(phaseName(worker.phase)), steps, share].filter(Boolean).join(" · ");
    const left = worker.left === null ? "" : `${whole(worker.left)} left`;
    say(this.phase, told);
    say(this.left, left);
    drawParts(this.bar, parts(worker, usual));
    if (worker.percent === null) this.bar.removeAttribute("aria-valuenow");
    else this.bar.setAttribute("aria-valuenow", worker.percent);
    this.bar.setAttribute("aria-valuetext", [told, left].filter(Boolean).join(", "));
  }

  drawQueue(queue) {
    say(this.queue, queue.paused ? `paused; ${waiting(queue)}` : waiting(queue));
    this.queue.parentElement.dataset.tone = queue.paused ? "warn" : "";
    say(this.seen, queue.age !== null && queue.age > 20 ? `seen ${whole(queue.age)} ago` : "");
    say(this.pause, queue.paused ? "Resume" : "Pause");
    this.pause.setAttribute("aria-label", `${queue.paused ? "Resume" : "Pause"} the ${queue.kind} queue`);
    this.paused = queue.paused;
  }

  drawFacts(worker) {
    const told = [
      ["Model", worker.pid !== null && worker.model],
      ["VRAM", worker.vram > 0 && bytes(worker.vram)],
      ["Memory", worker.pid !== null && worker.memory > 0 && bytes(worker.memory)],
      ["In hand", worker.claims > 0 && count(worker.claims, "job", "jobs")],
      ["Done", worker.done.toLocaleString("en")],
      ["Failed", worker.failed > 0 && worker.failed.toLocaleString("en")],
      ["Restarts", worker.restarts > 0 && String(worker.restarts)],
      ["Up", worker.up !== null && (worker.up < 60 ? whole(worker.up) : seconds(worker.up - (worker.up % 60)))],
      ["Last sign", worker.pid !== null && worker.age > BEHIND && `${whole(worker.age)} ago`],
    ].filter(([, value]) => value);
    const text = JSON.stringify(told);
    if (this.told === text) return;
    this.told = text;
    this.facts.replaceChildren(...told.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  async withdraw() {
    const id = this.id;
    const asked = `Job ${short(id)} stops at its next step. Nothing is delivered for it, and its user is not told by us.`;
    if (await confirmed("Cancel this job?", asked, "Cancel the job")) {
      await this.act(`/jobs/${encodeURIComponent(id)}/cancel`, `Job ${short(id)} is withdrawn.`);
    }
  }

  async toggle() {
    const verb = this.paused ? "resume" : "pause";
    const asked = "No worker on any machine claims jobs from it until it is resumed. What is being made is finished.";
    if (verb === "pause" && !(await confirmed(`Pause the ${this.kind} queue?`, asked, "Pause the queue"))) return;
    await this.act(`/queues/${this.kind}/${verb}`, `The ${this.kind} queue is ${verb}d. Workers see it at their next look.`);
  }

  async act(path, done) {
    say(this.problem, "");
    try {
      await post(path);
      announce(done);
    } catch (error) {
      say(this.problem, error.message);
    }
  }
}

const idle = (queue) => (queue && queue.paused ? "Its queue is paused: it claims nothing." : "Nothing to do.");

/** Phases of the making as [phase, share of the width, share that is done]. */
function parts(worker, usual) {
  const known = MAKING.filter((phase) => usual && usual[phase] > 0);
  const here = worker.steps ? worker.step / worker.steps : 0.5;
  if (!known.includes(worker.phase)) return [[worker.phase, 1, here]];
  const total = known.reduce((sum, phase) => sum + usual[phase], 0);
  const place = known.indexOf(worker.phase);
  return known.map((phase, i) => [phase, Math.max(0.03, usual[phase] / total), i < place ? 1 : i > place ? 0 : here]);
}

function drawParts(bar, wanted) {
  const names = wanted.map(([phase]) => phase).join();
  if (bar.dataset.phases !== names) {
    bar.dataset.phases = names;
    bar.replaceChildren(...wanted.map(([phase]) => element("i", { "data-phase": phase, title: phaseWord(phase) }, element("b"))));
  }
  wanted.forEach(([, width, done], i) => {
    bar.children[i].style.setProperty("--s", width);
    bar.children[i].firstChild.style.setProperty("--done", done);
  });
}

function drawCard(card, workers, idleShare) {
  const box = at("card");
  show(box, true);
  const held = workers.map((worker) => [worker.kind, worker.vram]).filter(([, value]) => value > 0);
  const others = card ? Math.max(0, card.used - held.reduce((sum, [, value]) => sum + value, 0)) : 0;
  const told = [
    card ? `${bytes(card.used)} of ${bytes(card.total)} in use` : "The workers run without a card that can be read",
    card && `${card.utilization} % busy`,
    card && `${card.temperature} °C`,
    card && `${Math.round(card.watts)} W`,
    `idle ${percent(idleShare.minute)} of the last minute, ${percent(idleShare.ten_minutes)} of ten`,
  ].filter(Boolean).join(" · ");
  const state = JSON.stringify([told, held]);
  if (box.dataset.state === state) return;
  box.dataset.state = state;
  const piece = (kind, value) => element("i", { "data-kind": kind, vars: { "--s": value }, title: `${kind} ${bytes(value)}` });
  const bar = card && element(
    "div",
    { class: "bar", role: "img", "aria-label": `Memory of the card: ${told}` },
    held.map(([kind, value]) => piece(kind, value)),
    piece("others", others),
    piece("free", Math.max(0, card.total - card.used)),
  );
  box.replaceChildren(element("h3", {}, card ? card.name : "Card"), ...(bar ? [bar] : []), element("p", { class: "soft" }, told));
}
