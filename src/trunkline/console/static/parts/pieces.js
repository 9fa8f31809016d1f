/** Pieces that several pages show. */

import { h } from "./dom.js";
import { ago, when } from "./words.js";

const GOOD = new Set(["active", "enabled", "open"]);
const BUSY = new Set(["creating", "updating", "deleting", "connecting", "reconnecting"]);
const BAD = new Set(["failed", "disabled", "closed"]);

/** A state as a coloured word. @param {string} state */
export function pill(state) {
  const element = h("span", { class: "pill" });
  setPill(element, state);
  return element;
}

/** @param {Element} element @param {string} state */
export function setPill(element, state) {
  if (element.textContent === state) return;
  element.textContent = state;
  const kind = GOOD.has(state) ? "good" : BUSY.has(state) ? "busy" : BAD.has(state) ? "bad" : "";
  element.className = `pill ${kind}`;
}

/** A time that says how long ago it was. @param {number} unixSeconds */
export function since(unixSeconds) {
  const element = h("time", {});
  setSince(element, unixSeconds);
  return element;
}

export function setSince(element, unixSeconds) {
  const text = ago(unixSeconds);
  if (element.textContent !== text) element.textContent = text;
  element.title = when(unixSeconds);
}

/** A box with a heading. */
export function card(title, props, ...children) {
  const id = `card-${title.toLowerCase().replaceAll(/\W+/g, "-")}`;
  const { actions, ...rest } = props;
  return h(
    "section",
    { class: "card", "aria-labelledby": id, ...rest },
    h("div", { class: "card-head" }, h("h2", { id }, title), actions && h("div", { class: "row end" }, actions)),
    ...children,
  );
}

/** A number with its name. */
export function tile(name, hint) {
  const value = h("strong", {}, "–");
  const element = h("div", { class: "tile", title: hint }, h("span", {}, name), value);
  return { element, set: (text) => value.textContent !== String(text) && (value.textContent = text) };
}

/** A tile with a bar that says how much of something is used. */
export function meter(name, hint) {
  const { element, set } = tile(name, hint);
  const bar = h("i", { class: "bar" });
  element.append(h("div", { class: "track", "aria-hidden": "true" }, bar));
  return {
    element,
    /** @param {string} text @param {number} part NaN if it isn't known. */
    set(text, part) {
      set(text);
      const shown = Number.isNaN(part) ? 0 : Math.min(1, part);
      bar.style.width = `${100 * shown}%`;
      bar.className = `bar ${shown > 0.9 ? "bad" : shown > 0.7 ? "busy" : "good"}`;
    },
  };
}

/** Where one is, and the ways up. @param {[string, string][]} ways */
export function trail(ways) {
  return h(
    "nav",
    { class: "trail", "aria-label": "Where this is" },
    ways.map(([text, href]) => h("a", { href }, text)),
  );
}

function columnHead(name) {
  const isNumber = name.startsWith("#");
  return h("th", { scope: "col", class: isNumber && "number" }, isNumber ? name.slice(1) : name);
}

/** A table with named columns; those whose name begins with "#" have numbers. */
export function table(caption, columns) {
  const body = h("tbody", {});
  const empty = h("p", { class: "dim empty", hidden: true });
  const element = h(
    "div",
    { class: "table-box", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map(columnHead))),
      body,
    ),
    empty,
  );
  const say = (text) => {
    empty.hidden = text === "";
    empty.textContent = text;
  };
  return { element, body, say };
}
