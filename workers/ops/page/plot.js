// One plot: columns or lines over time, read with the mouse, a finger, or the arrow keys.

import { element, say, shape, show } from "./dom.js";
import { clock, day } from "./words.js";

const HEIGHT = 168;
const EDGE = { left: 46, right: 6, top: 10, bottom: 24 };
const DAYS = 2 * 86_400;

export class Plot {
  /** `unit` is what the vertical axis counts, `read` turns a value into text. */
  constructor(title, unit, read) {
    this.read = read;
    this.title = title;
    this.svg = shape("svg", { class: "plot", height: HEIGHT, tabindex: 0, role: "slider", "aria-label": `${title}, ${unit}` });
    this.legend = element("ul", { class: "legend" });
    this.when = element("span", { class: "soft when" });
    this.empty = element("p", { class: "none" }, "Nothing yet: a row is written each minute.");
    this.node = element(
      "figure",
      { class: "panel" },
      element("figcaption", { class: "line" }, element("h3", {}, title), element("span", { class: "soft" }, unit), this.when),
      this.svg,
      this.empty,
      this.legend,
    );
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  /** `series` are {name, tone, kind: "column" | "line", values}, a value for each of `times`; columns are stacked. */
  set({ times, seconds, from, until, series, most }) {
    Object.assign(this, { times, seconds, from, until, series, most });
    if (this.cursor !== undefined && this.cursor >= times.length) this.cursor = undefined;
    this.draw();
  }

  listen() {
    const { svg } = this;
    svg.addEventListener("pointermove", (event) => this.point(event));
    svg.addEventListener("pointerdown", (event) => this.point(event));
    svg.addEventListener("pointerleave", () => this.move(undefined));
    svg.addEventListener("blur", () => this.move(undefined));
    svg.addEventListener("focus", () => svg.matches(":focus-visible") && this.move(this.last));
    svg.addEventListener("keydown", (event) => {
      const here = this.cursor ?? this.last;
      const to = { ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1, Home: 0, End: this.last }[event.key];
      if (to === undefined || !this.times.length) return;
      event.preventDefault();
      this.move(Math.min(this.last, Math.max(0, to)));
    });
  }

  get last() {
    return this.times.length - 1;
  }

  point(event) {
    if (!this.times || !this.times.length) return;
    const time = this.timeAt(event.clientX - this.svg.getBoundingClientRect().left);
    const off = this.times.map((each) => Math.abs(each + this.seconds / 2 - time));
    this.move(off.indexOf(Math.min(...off)));
  }

  move(to) {
    this.cursor = this.times && this.times.length ? to : undefined;
    this.mark();
  }

  draw() {
    const width = Math.floor(this.svg.getBoundingClientRect().width || this.node.clientWidth);
    if (!this.times || !width) return;
    const some = this.times.length > 0;
    this.svg.toggleAttribute("hidden", !some);
    show(this.empty, !some);
    show(this.legend, some);
    if (!some) return;
    this.width = width;
    this.top = ceiling(this.most ?? this.highest());
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("aria-valuemin", 0);
    this.svg.setAttribute("aria-valuemax", this.last);
    this.rule = shape("line", { class: "rule", y1: EDGE.top, y2: HEIGHT - EDGE.bottom });
    this.svg.replaceChildren(...this.axes(), ...this.columns(), ...this.lines(), this.rule);
    this.mark();
  }

  axes() {
    const drawn = [0, 0.5, 1].flatMap((share) => {
      const y = this.y(this.top * share);
      const line = shape("line", { class: "grid", x1: EDGE.left, x2: this.width - EDGE.right, y1: y, y2: y });
      return [line, shape("text", { x: EDGE.left - 8, y: y + 4, "text-anchor": "end" }, tick(this.top * share))];
    });
    const parts = this.width < 420 ? 2 : 4;
    const name = this.until - this.from > DAYS ? day : clock;
    for (let i = 0; i <= parts; i += 1) {
      const time = this.from + ((this.until - this.from) * i) / parts;
      const anchor = i === 0 ? "start" : i === parts ? "end" : "middle";
      drawn.push(shape("text", { x: this.x(time), y: HEIGHT - 6, "text-anchor": anchor }, name(time)));
    }
    return drawn;
  }

  columns() {
    const stacked = this.series.filter(({ kind }) => kind === "column");
    const wide = Math.max(1.5, this.x(this.from + this.seconds) - this.x(this.from) - 1);
    return this.times.flatMap((time, i) => {
      let below = 0;
      return stacked.map(({ tone, values }) => {
        const [y, height] = [this.y(below + (values[i] || 0)), this.y(below) - this.y(below + (values[i] || 0))];
        below += values[i] || 0;
        return height > 0 && shape("rect", { "data-tone": tone, x: Math.max(EDGE.left, this.x(time)), y, width: wide, height: Math.max(1, height) });
      }).filter(Boolean);
    });
  }

  lines() {
    return this.series.filter(({ kind }) => kind === "line").flatMap(({ tone, values }) => {
      const runs = this.runs(values);
      return runs.map((run) => {
        const points = run.map((i) => `${this.x(this.times[i] + this.seconds / 2).toFixed(1)},${this.y(values[i]).toFixed(1)}`);
        if (run.length > 1) return shape("polyline", { "data-tone": tone, points: points.join(" ") });
        const [cx, cy] = points[0].split(",");
        return shape("circle", { "data-tone": tone, cx, cy, r: 2.5 });
      });
    });
  }

  /** Indices that follow each other without a gap. */
  runs(values) {
    const found = [];
    values.forEach((value, i) => {
      if (value === null || value === undefined) return;
      const run = found.at(-1);
      const follows = run && run.at(-1) === i - 1 && this.times[i] - this.times[i - 1] < 1.5 * this.seconds;
      if (follows) run.push(i);
      else found.push([i]);
    });
    return found;
  }

  mark() {
    const i = this.cursor;
    if (!this.rule) return;
    this.rule.toggleAttribute("hidden", i === undefined);
    if (i !== undefined) {
      const x = this.x(this.times[i] + this.seconds / 2);
      this.rule.setAttribute("x1", x);
      this.rule.setAttribute("x2", x);
    }
    const here = i ?? this.last;
    const when = `${this.until - this.from > DAYS ? `${day(this.times[here])}, ` : ""}${clock(this.times[here])}`;
    const told = this.series.map(({ name, values }) => [name, values[here] === null || values[here] === undefined ? "–" : this.read(values[here])]);
    say(this.when, i === undefined ? "" : when);
    this.legend.replaceChildren(...told.map(([name, value], place) =>
      element("li", { "data-tone": this.series[place].tone }, name, i === undefined ? null : element("b", {}, ` ${value}`))));
    this.svg.setAttribute("aria-valuenow", here);
    this.svg.setAttribute("aria-valuetext", `${when}: ${told.map((pair) => pair.join(" ")).join(", ")}`);
  }

  highest() {
    const stacks = this.times.map((_, i) => this.series.filter(({ kind }) => kind === "column").reduce((sum, { values }) => sum + (values[i] || 0), 0));
    const points = this.series.filter(({ kind }) => kind === "line").flatMap(({ values }) => values);
    return Math.max(0, ...stacks, ...points.map((value) => value || 0));
  }

  x(time) {
    return EDGE.left + ((time - this.from) / (this.until - this.from)) * (this.width - EDGE.left - EDGE.right);
  }

  timeAt(x) {
    return this.from + ((x - EDGE.left) / (this.width - EDGE.left - EDGE.right)) * (this.until - this.from);
  }

  y(value) {
    return HEIGHT - EDGE.bottom - (value / this.top) * (HEIGHT - EDGE.top - EDGE.bottom);
  }
}

const tick = (value) => (value >= 10_000 ? `${value / 1000}k` : String(Number(value.toPrecision(3))));

/** The next number above that halves well. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((each) => each * power).find((each) => each >= value * 0.999);
}
