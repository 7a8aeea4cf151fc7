// Sums: where the seconds of the card and the money went, and how each type does against its targets.

import { at, element } from "./dom.js";
import { bytes, money, percent, seconds } from "./words.js";

export function drawCosts(costs) {
  const wasted = costs.wasted;
  const failed = costs.failed || { seconds: 0, money: 0 };
  const lost = { seconds: Math.max(0, wasted.seconds - failed.seconds), money: Math.max(0, wasted.money - failed.money) };
  const useful = Object.entries(costs.types).sort(([, a], [, b]) => b.seconds - a.seconds);
  const rows = [
    ...useful.map(([name, part]) => [name, part, kindOf(name), ""]),
    ["failed", failed, "failed", "jobs that ended as failed"],
    ["repeated", lost, "lost", "attempts that died or were cancelled, and warming up"],
    ["idle", costs.idle, "free", "nobody had the card"],
  ];
  const total = rows.reduce((sum, [, part]) => sum + part.seconds, 0);
  const section = at("costs");
  section.querySelectorAll(".body").forEach((node) => node.remove());
  if (!total) return section.append(element("p", { class: "none body" }, "Nothing yet: sums begin with the first full minute."));
  const spent = rows.reduce((sum, [, part]) => sum + part.money, 0);
  const told = `${seconds(total)} of the last day were watched.`;
  const priced = costs.price > 0
    ? ` At ${money(costs.price)} an hour they cost ${money(spent)}, of which ${money(spent - sumOf(useful, "money"))} brought nothing.`
    : " Set POD_PRICE to see what they cost.";
  const bar = element("div", { class: "bar tall", role: "img", "aria-label": rows.map(([name, part]) => `${name} ${percent(part.seconds / total)}`).join(", ") },
    rows.filter(([, part]) => part.seconds > 0).map(([name, part, kind]) => element("i", { "data-kind": kind, vars: { "--s": part.seconds }, title: `${name} ${seconds(part.seconds)}` })));
  const body = rows.map(([name, part, kind, why]) => [
    element("span", { class: "mark", "data-kind": kind }, name, why && element("span", { class: "soft" }, ` ${why}`)),
    seconds(part.seconds), percent(part.seconds / total), ...(costs.price > 0 ? [money(part.money)] : []),
  ]);
  const titles = ["", "Card", "Share", ...(costs.price > 0 ? ["Money"] : [])];
  return section.append(element("div", { class: "body panel" }, element("p", { class: "soft" }, told + priced), bar, table("Time of the card by use", titles, body)));
}

const kindOf = (name) => (name.startsWith("sdxl") ? "sdxl" : "wan");
const sumOf = (entries, field) => entries.reduce((sum, [, part]) => sum + part[field], 0);

const COLUMNS = [
  ["Type", (row) => row.type],
  ["Jobs", (row) => (row.failed ? `${row.completed} + ${row.failed} failed` : String(row.completed))],
  ["Success", (row, card, targets) => judged(percent(row.success), row.success === null ? null : row.success > targets.success, `more than ${percent(targets.success)}`)],
  ["Waiting", (row, card, targets) => judged(seconds(row.wait), row.wait === null ? null : row.wait < targets.queue_wait, `less than ${seconds(targets.queue_wait)}`)],
  ["Made in", (row, card) => judged(seconds(row.made), inTime(row, card), row.goal ? `at most ${seconds(row.goal)}` : "")],
  ["Prompt", (row) => (row.enhance ? seconds(row.enhance) : "–")],
  ["Generation", (row) => seconds(row.generation)],
  ["per output", (row) => seconds(row.per_output)],
  ["per step", (row) => seconds(row.per_step)],
  ["Upload", (row) => seconds(row.upload)],
  ["In all", (row) => seconds(row.total)],
  ["File", (row) => bytes(row.bytes)],
  ["VRAM", (row) => (row.card_peak ? bytes(row.card_peak) : "–")],
];

/** null where there is nothing to judge, or no card like the one that goals are for. */
const inTime = (row, card) => (card && row.goal && row.made !== null ? row.made <= row.goal : null);

export function drawTypes(status) {
  const section = at("types");
  const card = Boolean(status.card);
  const before = section.querySelector(".wide");
  const held = before !== null && before === document.activeElement;
  const scrolled = before ? before.scrollLeft : 0;
  section.querySelectorAll(".body").forEach((node) => node.remove());
  const { targets } = status;
  const cells = (row) => COLUMNS.map(([, value]) => value(row, card, targets));
  const rows = status.types.map((row) => (row.completed + row.failed ? cells(row) : [row.type, null]));
  const any = status.types.some((row) => row.completed + row.failed);
  const late = (row) => (inTime(row, card) === false ? [`made in ${seconds(row.made)}, where the goal is ${seconds(row.goal)}`] : []);
  const misses = status.types.flatMap((row) => [...row.misses, ...late(row)].map((miss) => `${row.type}: ${miss}.`));
  const goals = card ? "" : " There is no card here, so times are not judged: goals are those of one H200.";
  const told = `Medians of the last 500 jobs. Targets: more than ${percent(targets.success)} delivered, less than ${seconds(targets.queue_wait)} of waiting, and for each type a time to the finished file.${goals}`;
  const parts = [
    element("p", { class: "soft body" }, told),
    misses.length ? element("ul", { class: "misses body" }, misses.map((miss) => element("li", {}, miss))) : any && element("p", { class: "body kept" }, "All targets that can be judged are kept."),
    element("div", { class: "body panel wide", tabindex: 0, role: "region", "aria-label": "Types against their targets" }, table("Types", COLUMNS.map(([name]) => name), rows)),
  ];
  section.append(...parts.filter(Boolean));
  const now = section.querySelector(".wide");
  now.scrollLeft = scrolled;
  if (held) now.focus({ preventScroll: true });
}

/** A value with its target; what keeps it or misses it says so in words too. */
function judged(value, kept, target) {
  const verdict = kept === null ? null : element("span", { class: "verdict", "data-tone": kept ? "good" : "bad" }, kept ? "kept" : "missed");
  return element("span", { class: "judged", title: target && `Target: ${target}` }, value, verdict);
}

/** On a narrow screen each row is a block and says its columns itself; roles keep it a table for screen readers. */
function table(caption, titles, rows) {
  const head = element("tr", { role: "row" }, titles.map((title) => element("th", { role: "columnheader", scope: "col" }, title)));
  const nothing = () => element("td", { role: "cell", class: "nothing", colspan: titles.length - 1 }, "no job yet");
  const cell = (value, i) => (value === null ? nothing() : element("td", { role: "cell", "data-label": titles[i + 1] }, value));
  const cells = ([name, ...values]) => [element("th", { role: "rowheader", scope: "row" }, name), ...values.map(cell)];
  return element("table", { role: "table" }, element("caption", { class: "unseen" }, caption),
    element("thead", { role: "rowgroup" }, head),
    element("tbody", { role: "rowgroup" }, rows.map((row) => element("tr", { role: "row" }, cells(row)))));
}
