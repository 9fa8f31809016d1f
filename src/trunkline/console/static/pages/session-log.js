/** What a session's agent prints, as it prints it. */

import { button, h, save, setText } from "../parts/dom.js";
import { card } from "../parts/pieces.js";
import { clock, count } from "../parts/words.js";

const MOST_LINES = 5000;
const TAIL = 1000;
const AGAIN_MS = 2000;

export function logCard({ api, signal }, agent, id) {
  const lines = h("ol", {});
  const empty = h("p", { class: "dim" }, "It has printed nothing yet.");
  const box = h("div", { class: "log", tabindex: "0", role: "log", "aria-label": "Log", "aria-live": "off" }, empty, lines);
  const said = h("span", { class: "dim", role: "status" });
  const follow = h("input", { type: "checkbox", id: "follow", checked: true });
  const filter = h("input", { type: "search", id: "filter", placeholder: "Filter", "aria-label": "Filter the log" });
  const kinds = ["console", "system"].map((kind, i) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "radio", name: "kind", value: kind, checked: i === 0, on: { change: () => begin(kind) } }),
      kind,
    ),
  );
  let reading = new AbortController();
  let kind = "console";

  function matches(text) {
    return text.toLowerCase().includes(filter.value.trim().toLowerCase());
  }

  function add(entries) {
    const made = entries.map(({ timestamp, stream, message }) =>
      h(
        "li",
        { class: stream, hidden: !matches(message) },
        h("time", { title: timestamp }, clock(new Date(timestamp))),
        h("span", {}, message),
      ),
    );
    lines.append(...made);
    while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
    setText(said, count(lines.childElementCount, "line"));
    empty.hidden = true;
    if (follow.checked) box.scrollTop = box.scrollHeight;
  }

  async function begin(wanted) {
    reading.abort();
    reading = new AbortController();
    const ends = AbortSignal.any([signal, reading.signal]);
    kind = wanted;
    lines.replaceChildren();
    empty.hidden = false;
    setText(said, "");
    let after = null;
    while (!ends.aborted) {
      try {
        const query = after === null ? { kind, tail: TAIL } : { kind, after };
        let waiting = [];
        for await (const entry of api.log(agent, id, query, ends)) {
          if (entry.message === undefined) continue;
          after = entry.offset ?? after;
          waiting.push(entry);
          // A flood is put into the page once a frame, not once a line.
          if (waiting.length === 1) {
            requestAnimationFrame(() => {
              if (!ends.aborted) add(waiting);
              waiting = [];
            });
          }
        }
      } catch (error) {
        if (ends.aborted) return;
        setText(said, error.message);
        if (error.status === 403 || error.status === 404) return;
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  filter.addEventListener("input", () => {
    for (const line of lines.children) line.hidden = !matches(line.lastElementChild.textContent);
  });
  box.addEventListener("scroll", () => {
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    if (follow.checked !== isAtEnd) follow.checked = isAtEnd;
  });
  follow.addEventListener("change", () => {
    if (follow.checked) box.scrollTop = box.scrollHeight;
  });
  const download = async () => {
    const found = [];
    const query = { kind, follow: "false", tail: 10_000 };
    for await (const entry of api.log(agent, id, query, signal)) {
      if (entry.message !== undefined) found.push(`${entry.timestamp} ${entry.stream} ${entry.message}\n`);
    }
    save(new Blob(found, { type: "text/plain" }), `${agent}-${id}-${kind}.log`);
  };
  void begin("console");

  return card(
    "Log",
    {
      actions: [
        h("fieldset", { class: "choices" }, h("legend", { class: "unseen" }, "Which log"), kinds),
        filter,
        h("label", { class: "choice" }, follow, "follow"),
        button("Download", { name: "download", press: download }),
      ],
    },
    box,
    said,
  );
}
