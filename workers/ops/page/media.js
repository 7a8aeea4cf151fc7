// Pictures and clips of a job: small in its card, large in the viewer. Clips play only while they can be seen.

import { at, element, say, show } from "./dom.js";
import { count } from "./words.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const FIRST_FRAME = "#t=0.01"; // makes a clip that does not play show a picture
let playing = !still.matches;
let series = [];
let place = 0;

export const playClips = element("button", { type: "button", class: "quiet small", hidden: true, onclick: toggleClips });

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!target.isConnected) seen.unobserve(target);
    else play(target, isIntersecting && playing);
  }
});

export function toggleClips() {
  playing = !playing;
  say(playClips, playing ? "Pause clips" : "Play clips");
  for (const clip of document.querySelectorAll(".media video")) play(clip, playing && isVisible(clip));
}

function play(clip, wanted) {
  if (!wanted) clip.pause();
  else clip.play().catch(() => {}); // a clip that was taken away meanwhile
}

function isVisible(node) {
  const { top, bottom } = node.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

/** A mosaic of what was delivered; a plain tile where files are not shown, gone, or were never made. */
export function drawMedia(job, pictures) {
  const files = job.files.map((file, index) => ({ ...file, src: `/files/${encodeURIComponent(job.job)}/${index}`, job }));
  const box = element("div", { class: "media", "data-files": pictures ? files.length : 0 });
  if (!pictures || !files.length) box.append(tile(job, files.length));
  else box.append(...files.map((file) => small(file, files)));
  return box;
}

function tile(job, files) {
  const noun = String(job.type).includes("video") ? ["clip", "clips"] : ["picture", "pictures"];
  return element("span", { class: "tile" }, files ? count(files, ...noun) : job.status === "failed" ? "no result" : "no file");
}

function small(file, files) {
  const index = files.indexOf(file);
  const name = `${file.job.type}, ${isClip(file) ? "clip" : "picture"} ${index + 1} of ${files.length}`;
  const gone = () => button.replaceChildren(element("span", { class: "tile" }, "gone"));
  const look = isClip(file)
    ? element("video", { src: `${file.src}${FIRST_FRAME}`, loop: true, playsinline: true, preload: "metadata", "aria-hidden": "true", onerror: gone })
    : element("img", { src: file.thumbnail ? `${file.src}?thumbnail` : file.src, alt: "", loading: "lazy", decoding: "async", onerror: gone });
  const button = element("button", { type: "button", "aria-label": `Look at ${name}`, onclick: () => enlarge(files, index) }, look);
  if (isClip(file)) {
    look.muted = true;
    seen.observe(look);
    say(playClips, playing ? "Pause clips" : "Play clips");
    show(playClips, true);
  }
  return button;
}

const isClip = (file) => String(file.content_type).startsWith("video/");

export function openViewer() {
  const dialog = at("viewer");
  at("viewer-before").addEventListener("click", () => turn(-1));
  at("viewer-after").addEventListener("click", () => turn(1));
  at("viewer-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => at("viewer-frame").replaceChildren());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && event.target.tagName !== "VIDEO") turn(by);
  });
}

function enlarge(files, index) {
  series = files;
  place = index;
  turn(0);
  at("viewer").showModal();
}

function turn(by) {
  place = Math.min(series.length - 1, Math.max(0, place + by));
  const file = series[place];
  const name = `${file.job.type} · ${place + 1} of ${series.length}`;
  const look = isClip(file)
    ? element("video", { src: file.src, loop: true, controls: true, playsinline: true, "aria-label": name })
    : element("img", { src: file.src, alt: name });
  if (isClip(file)) {
    look.muted = true;
    play(look, playing);
  }
  at("viewer-frame").replaceChildren(look);
  say(at("viewer-title"), name);
  show(at("viewer-before"), series.length > 1);
  show(at("viewer-after"), series.length > 1);
  at("viewer-before").disabled = place === 0;
  at("viewer-after").disabled = place === series.length - 1;
}
