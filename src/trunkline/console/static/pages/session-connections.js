/** A session's connections: when, how long, how much, and who ended them why. */

import { poll, sessionPath } from "../api.js";
import { explain } from "../client/index.js";
import { h, keepRows, setText } from "../parts/dom.js";
import { pill } from "../parts/pieces.js";
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
  const empty = h("p", { class: "dim empty" }, "There has been none yet.");
  const path = sessionPath(agent, id, "/connections");
  const look = async () => {
    const [open, ended] = await Promise.all(
      ["open", "closed"].map(async (state) => (await api.get(path, { state, limit: 50 }, signal)).data),
    );
    const all = [...open, ...ended];
    empty.hidden = all.length > 0;
    const longest = Math.max(0.001, ...all.map(({ age_s }) => age_s));
    keepRows(list, all, (c) => c.request_id + (c.closed_at ?? ""), (c) => (c.closed_at ? endedRow(c) : openRow(c)), longest);
  };
  void poll(look, LOOK_MS, signal);
  return h("div", {}, empty, list);
}

function openRow(connection) {
  const bar = h("i", { class: "bar accent" });
  const facts = h("p", { class: "dim" });
  const update = (now, longest) => {
    bar.style.width = widthOf(now, longest);
    setText(facts, factsOf(now));
  };
  const element = row(pill("open"), "it goes on", connection.opened_at, [h("div", { class: "track" }, bar), facts]);
  return { element, update };
}

function endedRow(connection) {
  const { code, reason, limit, closed_by: by, closed_at: at } = connection;
  const kind = code === 1000 || code === 1005 ? "good" : code === 1001 || code === 1012 ? "busy" : "bad";
  const bar = h("i", { class: `bar ${kind}` });
  const element = row(h("span", { class: `pill ${kind}` }, String(code)), BY[by] ?? by, at, [
    h("p", {}, explain(code), reason && h("q", {}, reason)),
    limit && h("p", {}, "The limit: ", h("code", {}, `${limit.setting}=${limit.value}`)),
    h("div", { class: "track" }, bar),
    h("p", { class: "dim" }, factsOf(connection)),
  ]);
  return { element, update: (_, longest) => (bar.style.width = widthOf(connection, longest)) };
}

function row(mark, words, at, rest) {
  const time = h("time", { class: "dim end", datetime: at }, new Date(at).toLocaleString());
  return h("li", {}, h("div", { class: "row" }, mark, h("b", {}, words), time), rest);
}

function widthOf({ age_s: age }, longest) {
  return `${Math.max(2, (100 * age) / longest)}%`;
}

function factsOf({ age_s: age, in: up, out: down, version, closed_at: at }) {
  return (
    `${at ? "open for" : "for"} ${duration(age)} · up ${count(up.frames, "frame")}, ${size(up.bytes)} · ` +
    `down ${count(down.frames, "frame")}, ${size(down.bytes)}` +
    (version && version !== "-" ? ` · version ${version}` : "")
  );
}
