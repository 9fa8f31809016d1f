/** How a session's connections went: when, how long, how much, and who ended them why. */

import { poll, sessionPath } from "../api.js";
import { explain } from "../client/index.js";
import { h, keepRows } from "../parts/dom.js";
import { count, duration, size } from "../parts/words.js";

const LOOK_MS = 3000;
const BY = {
  client: "the client closed it",
  agent: "the agent closed it",
  limit: "a limit ended it",
  drain: "the platform was stopping",
  network: "the network lost it",
  revocation: "what let it in was revoked",
};

export function connectionsCard({ api, signal }, agent, id) {
  const list = h("ol", { class: "connections" });
  const empty = h("p", { class: "dim empty" }, "None has ended yet. One that is open is here once it ends.");
  const look = async () => {
    const { data } = await api.get(sessionPath(agent, id, "/connections"), { limit: 50 }, signal);
    empty.hidden = data.length > 0;
    const longest = Math.max(...data.map(({ age_s }) => age_s));
    keepRows(list, data, (c) => c.request_id + c.closed_at, (c) => row(c, longest));
  };
  void poll(look, LOOK_MS, signal);
  return h("div", {}, empty, list);
}

function row(connection, longest) {
  const { code, reason, limit, closed_by: by, age_s: age, in: up, out: down } = connection;
  const kind = code === 1000 || code === 1005 ? "good" : code === 1001 || code === 1012 ? "busy" : "bad";
  const bar = h("i", { class: `bar ${kind}` });
  bar.style.width = `${Math.max(2, (100 * age) / Math.max(longest, 0.001))}%`;
  const element = h(
    "li",
    {},
    h(
      "div",
      { class: "row" },
      h("span", { class: `pill ${kind}` }, String(code)),
      h("b", {}, BY[by] ?? by),
      h("time", { class: "dim end", datetime: connection.closed_at }, new Date(connection.closed_at).toLocaleString()),
    ),
    h("p", {}, explain(code), reason && h("q", {}, reason)),
    limit && h("p", {}, "The limit: ", h("code", {}, `${limit.setting}=${limit.value}`)),
    h("div", { class: "track" }, bar),
    h(
      "p",
      { class: "dim" },
      `open for ${duration(age)} · up ${count(up.frames, "frame")}, ${size(up.bytes)} · ` +
        `down ${count(down.frames, "frame")}, ${size(down.bytes)}` +
        (connection.version ? ` · version ${connection.version}` : ""),
    ),
  );
  return { element, update() {} };
}
