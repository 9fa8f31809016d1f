/** What was said, as it comes. */

import { h } from "../parts/dom.js";
import { clock } from "../parts/words.js";

const MOST = 500;

export class Transcript {
  #list = h("ol", { class: "transcript" });
  #captions = new Map();
  #empty = h("p", { class: "dim empty" }, "What is said appears here.");

  constructor() {
    this.element = h(
      "div",
      { class: "transcript-box", role: "log", "aria-label": "Transcript", tabindex: "0" },
      this.#empty,
      this.#list,
    );
  }

  /** What is being said, as far as it is known: each time anew until it is final. */
  caption(id, text, isFinal) {
    let line = this.#captions.get(id);
    if (line === undefined) this.#captions.set(id, (line = this.say("agent", text)));
    line.querySelector("span").textContent = text;
    line.classList.toggle("partial", !isFinal);
    if (isFinal) this.#captions.delete(id);
  }

  /** @param {"you" | "agent" | "note" | "bad"} who @param {string} text */
  say(who, text, detail = "") {
    this.#empty.hidden = true;
    const names = { you: "You", agent: "Agent", note: "", bad: "" };
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < 40;
    const line = h(
      "li",
      { class: who },
      names[who] && h("b", {}, names[who]),
      h("span", {}, text),
      h("time", {}, detail || clock(new Date()).slice(0, 8)),
    );
    this.#list.append(line);
    while (this.#list.childElementCount > MOST) this.#list.firstElementChild.remove();
    if (isAtEnd) this.element.scrollTop = this.element.scrollHeight;
    return line;
  }
}
