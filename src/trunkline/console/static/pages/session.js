/** One session: what it uses, what it prints, its files, its connections. */

import { poll, sessionPath as pathOf } from "../api.js";
import { button, confirmed, copy, h, icon, iconButton, note, setText } from "../parts/dom.js";
import { card, pill, setPill, trail } from "../parts/pieces.js";
import { ago, when } from "../parts/words.js";
import { connectionsCard } from "./session-connections.js";
import { filesCard } from "./session-files.js";
import { logCard } from "./session-log.js";
import { usageCard } from "./session-usage.js";

const LOOK_MS = 2000;

export function sessionPage(context, agent, id) {
  const { api, signal } = context;
  const here = `#/agents/${encodeURIComponent(agent)}`;
  const path = pathOf(agent, id);
  const state = pill("…");
  const facts = h("p", { class: "dim" });
  const problem = h("p", { class: "alert", role: "alert", hidden: true });
  const usage = usageCard(context);

  /** What is of no use where there is no such session. */
  const parts = [];

  const look = async () => {
    try {
      const session = await api.get(path, { include: "usage" }, signal);
      problem.hidden = true;
      for (const part of parts) part.hidden = false;
      setPill(state, session.status);
      usage.update(session.usage);
      setText(
        facts,
        `Version ${session.version_indicator.agent_version} · made ${ago(session.created_at)} · last used ` +
          `${ago(session.last_accessed_at)} · kept until ${when(session.expires_at)}`,
      );
    } catch (error) {
      if (signal.aborted) throw error;
      problem.hidden = false;
      setText(problem, error.message);
      for (const part of parts) part.hidden = [403, 404].includes(error.status);
    }
  };
  const stop = async () => {
    try {
      await api.send("POST", `${path}:stop`);
      note("The session is stopped. Its files are kept, and the next call starts it again.");
      await look();
    } catch (error) {
      note(error.message, "bad");
    }
  };
  const remove = async () => {
    const sure = await confirmed("Delete this session?", "Its files and its log go with it.", "Delete");
    if (!sure) return;
    try {
      await api.send("DELETE", path);
      location.hash = here;
      note("The session is deleted.");
    } catch (error) {
      note(error.message, "bad");
    }
  };
  const actions = h(
    "div",
    { class: "row end" },
    button("Stop", { name: "stop", press: stop }),
    button("Delete", { name: "trash", kind: "danger", press: remove }),
    h(
      "a",
      { class: "button primary", href: `${here}/talk?session=${encodeURIComponent(id)}` },
      icon("mic"),
      h("span", {}, "Talk"),
    ),
  );
  const body = [
    usage.element,
    logCard(context, agent, id),
    h(
      "div",
      { class: "columns" },
      card("Connections", {}, connectionsCard(context, agent, id)),
      filesCard(context, agent, id),
    ),
  ];
  parts.push(state, actions, ...body);
  void poll(look, LOOK_MS, signal);

  return {
    title: id,
    head: h(
      "div",
      {},
      trail([
        ["Agents", "#/"],
        [agent, here],
      ]),
      h(
        "div",
        { class: "row title" },
        h("h1", { tabindex: "-1", class: "mono" }, id),
        state,
        iconButton("Copy the session's id", "copy", () => copy(id, "The session's id")),
        actions,
      ),
      facts,
    ),
    body: [problem, ...body],
  };
}
