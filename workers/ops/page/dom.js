// Elements from data. Text is always a text node: nothing that came from elsewhere is read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, given] of Object.entries(value)) node.style.setProperty(key, given);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const shape = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const at = (id) => document.getElementById(id);

/** Text that is as it was stays untouched: screen readers would read it again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** What happened, for those who do not see it happen. */
export function announce(text) {
  at("said").textContent = text;
}

/** Resolves with true where the operator agrees; the focus returns to where it was. */
export function confirmed(title, text, yes) {
  const dialog = at("confirm");
  at("confirm-title").textContent = title;
  at("confirm-text").textContent = text;
  at("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** A row of buttons of which one is pressed. `choose` is called with its value. */
export function choices(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) =>
    element("button", { type: "button", "data-value": value, "aria-pressed": String(value === chosen) }, text),
  );
  const press = (value) => {
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.value === String(value)));
  };
  const node = element("div", { class: "choices", role: "group", "aria-label": label }, buttons);
  node.addEventListener("click", ({ target }) => {
    if (target.dataset.value === undefined) return;
    press(target.dataset.value);
    choose(target.dataset.value);
  });
  return { node, press };
}
