/** Every frame as it is: direction, time, and its bytes as text, JSON or hex. */

import { button, h, keepRows } from "../parts/dom.js";
import { card } from "../parts/pieces.js";
import { clock, size } from "../parts/words.js";

const MOST = 500;
const MOST_BYTES = 4096;

/**
 * @typedef {object} Frame
 * @property {"up" | "down"} side
 * @property {Date} at
 * @property {string | Uint8Array} message
 */

export class Inspector {
  /** @type {Frame[]} */ #frames = [];
  #list = h("tbody", {});
  #shown = h("pre", { class: "log short", tabindex: "0", "aria-label": "The chosen frame" });
  #sound = h("input", { type: "checkbox", id: "show-sound" });
  #isDirty = false;
  #number = 0;
  #chosen = null;

  constructor() {
    this.#sound.addEventListener("change", () => this.#draw());
    const clear = button("Clear", {
      kind: "small",
      press: () => {
        this.#frames = [];
        this.#shown.textContent = "";
        this.#draw();
      },
    });
    this.element = card(
      "Frames",
      { actions: [h("label", { class: "choice" }, this.#sound, "binary frames, too"), clear] },
      h(
        "div",
        { class: "table-box frames", tabindex: "0", role: "region", "aria-label": "Frames" },
        h(
          "table",
          {},
          h("caption", { class: "unseen" }, "The last frames, the newest first"),
          h(
            "thead",
            {},
            h("tr", {}, ["Direction", "Time", "Size", "Content"].map((name) => h("th", { scope: "col" }, name))),
          ),
          this.#list,
        ),
      ),
      this.#shown,
    );
    this.#shown.textContent = "Choose a frame to see all of it.";
  }

  /** @param {"up" | "down"} side @param {string | Uint8Array} message */
  add(side, message) {
    this.#number += 1;
    this.#frames.unshift({ side, at: new Date(), message, number: this.#number });
    if (this.#frames.length > MOST) this.#frames.length = MOST;
    if (this.#isDirty || (typeof message !== "string" && !this.#sound.checked)) return;
    this.#isDirty = true;
    requestAnimationFrame(() => {
      this.#isDirty = false;
      this.#draw();
    });
  }

  #draw() {
    const shown = this.#frames
      .filter(({ message }) => this.#sound.checked || typeof message === "string")
      .slice(0, 100);
    keepRows(this.#list, shown, ({ number }) => String(number), (frame) => this.#row(frame));
  }

  #row(frame) {
    const { side, at, message } = frame;
    const bytes = typeof message === "string" ? new TextEncoder().encode(message).length : message.length;
    const choose = () => {
      this.#chosen?.classList.remove("chosen");
      this.#chosen = element;
      element.classList.add("chosen");
      this.#shown.textContent = whole(message);
    };
    const element = h(
      "tr",
      { on: { click: choose } },
      h("td", {}, h("span", { class: `way ${side}` }, side === "up" ? "↑ up" : "↓ down")),
      h("td", { class: "mono" }, clock(at)),
      h("td", {}, size(bytes)),
      h("td", {}, h("button", { type: "button", class: "link mono clip", on: { click: choose } }, brief(message))),
    );
    return { element, update() {} };
  }
}

function brief(message) {
  if (typeof message === "string") return message.slice(0, 200) || "(empty text)";
  return hexOf(message.subarray(0, 16)) + (message.length > 16 ? " …" : "");
}

/** JSON if it is, else text; binary as hex and text side by side. */
function whole(message) {
  if (typeof message === "string") {
    try {
      return JSON.stringify(JSON.parse(message), null, 2);
    } catch {
      return message;
    }
  }
  const lines = [];
  for (let at = 0; at < Math.min(message.length, MOST_BYTES); at += 16) {
    const part = message.subarray(at, at + 16);
    const text = [...part].map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hexOf(part).padEnd(47)}  ${text}`);
  }
  if (message.length > MOST_BYTES) lines.push(`… and ${message.length - MOST_BYTES} bytes more`);
  return lines.join("\n");
}

function hexOf(bytes) {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
