// A form for any type of job. Prompts stay here: the server does not tell them, so only this tab knows its own.

import { announce, at, element, say, show } from "./dom.js";
import { endOf } from "./jobs.js";
import { post } from "./server.js";
import { phaseWord, short } from "./words.js";

const KEPT = 10;
const EVERY = "every";
const own = [];
const form = element("form", { class: "panel" });
const list = element("ul", { class: "own" });
const answer = element("p", { class: "answer", role: "status" });
let types = [];
let controls;

export function openSubmit(status) {
  if (!status.local || controls) return;
  types = status.types;
  controls = {
    type: element("select", { id: "submit-type", onchange: offer }, ["image", "video"].map(group), element("option", { value: EVERY }, "one of each type")),
    count: element("select", { id: "submit-count" }),
    prompt: element("textarea", { id: "submit-prompt", rows: 2, required: true, maxlength: 2000, placeholder: "a lighthouse at dusk, waves rolling in" }),
    button: element("button", { class: "primary", type: "submit" }, "Queue"),
  };
  form.append(
    field("What to show", controls.prompt),
    field("Type", controls.type),
    field("Pictures", controls.count),
    controls.button,
    answer,
    list,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  controls.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  at("submit").append(form);
  show(at("submit"), true);
  offer();
}

export function focusPrompt() {
  if (!controls) return;
  controls.prompt.focus();
}

const field = (name, control) => element("div", { class: "field" }, element("label", { for: control.id }, name), control);

function group(media) {
  const names = types.filter((row) => row.media === media).map((row) => row.type);
  return element("optgroup", { label: media === "video" ? "Clips" : "Images" }, names.map((name) => element("option", { value: name }, name)));
}

function offer() {
  const row = types.find((each) => each.type === controls.type.value);
  const offered = (row && row.outputs) || [1];
  controls.count.replaceChildren(...offered.map((each) => element("option", { value: each, selected: each === offered.at(-1) }, String(each))));
  show(controls.count.parentElement, offered.length > 1);
}

async function send() {
  const prompt = controls.prompt.value.trim();
  const chosen = controls.type.value;
  const wanted = chosen === EVERY ? types.map((row) => row.type) : [chosen];
  if (!prompt) return;
  controls.button.disabled = true;
  say(answer, "One moment …");
  answer.dataset.tone = "";
  try {
    for (const type of wanted) await queue(type, prompt);
    answer.dataset.tone = "good";
    say(answer, wanted.length > 1 ? `${wanted.length} jobs are queued.` : `${wanted[0]} is queued.`);
    announce(answer.textContent);
  } catch (error) {
    answer.dataset.tone = "bad";
    say(answer, error.message);
  } finally {
    controls.button.disabled = false;
  }
}

async function queue(type, prompt) {
  const many = controls.count.parentElement.hidden ? {} : { num_images: Number(controls.count.value) };
  const { job_id: id } = await post("/jobs", { type, prompt, ...many });
  const state = element("span", { class: "state", "data-tone": "wait" }, "waiting");
  const words = [element("strong", {}, type), element("code", { class: "soft", title: id }, short(id)), state];
  const line = element("li", {}, element("div", { class: "line" }, words), element("p", { class: "prompt" }, prompt));
  own.unshift({ id, state, line, since: Date.now() });
  for (const { line: old } of own.splice(KEPT)) old.remove();
  list.prepend(line);
}

/** How far the jobs of this tab are. */
export function drawOwn(workers) {
  for (const { id, state } of own) {
    const ended = endOf(id);
    const worker = workers.find((each) => each.job === id && each.pid !== null);
    const [word, tone] = ended
      ? ended.status === "completed" ? ["delivered", "good"] : [ended.status, "bad"]
      : worker ? [`${phaseWord(worker.phase)}${worker.percent === null ? "" : ` ${worker.percent} %`}`, "busy"]
      : state.dataset.tone === "busy" || state.dataset.tone === "done" ? ["on its way out", "done"]
      : ["waiting", "wait"];
    say(state, word);
    state.dataset.tone = tone;
  }
}
