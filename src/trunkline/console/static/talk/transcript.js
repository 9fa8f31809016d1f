/** What was said, as it comes. */

import { h } from "../parts/dom.js";
import { clock } from "../parts/words.js";

const MOST = 500;

export class Transcript {
  #list = h("ol", { class: "transcript" });
  #empty = h("p", { class: "dim empty" }, "What is said appears here.");

  constructor() {
    this.element = h(
      "div",
      { class: "transcript-box", role: "log", "aria-label": "Transcript", tabindex: "0" },
      this.#empty,
      this.#list,
    );
  }

  /** @param {"you" | "agent" | "note" | "bad"} who @param {string} text */
  say(who, text, detail = "") {
    this.#empty.hidden = true;
    const names = { you: "You", agent: "Agent", note: "", bad: "" };
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < 40;
    this.#list.append(
      h(
        "li",
        { class: who },
        names[who] && h("b", {}, names[who]),
        h("span", {}, text),
        h("time", {}, detail || clock(new Date()).slice(0, 8)),
      ),
    );
    while (this.#list.childElementCount > MOST) this.#list.firstElementChild.remove();
    if (isAtEnd) this.element.scrollTop = this.element.scrollHeight;
  }
}
