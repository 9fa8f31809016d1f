/** All agents, and how the platform is. */

import { poll } from "../api.js";
import { TimeChart } from "../parts/charts.js";
import { h, icon, keepRows, setText } from "../parts/dom.js";
import { card, pill, setPill, tile } from "../parts/pieces.js";
import { count } from "../parts/words.js";

const LOOK_MS = 2000;

export function agentsPage({ api, signal }) {
  const tiles = {
    agents: tile("Agents", "that are deployed here"),
    sessions: tile("Sessions running", "those that have a process now"),
    sockets: tile("Sockets open", "WebSocket connections relayed now"),
    errors: tile("Errors today", "calls that failed for the agents' or the platform's part since midnight, UTC"),
    refused: tile("Refused", "upgrades answered with an error since the platform started"),
  };
  const chart = new TimeChart(
    "Sessions running and sockets open over the last five minutes",
    [
      { name: "sockets", colour: "accent" },
      { name: "sessions", colour: "second" },
    ],
    signal,
  );
  const list = h("ul", { class: "agents" });
  const empty = h(
    "div",
    { class: "card start", hidden: true },
    h("h2", {}, "No agent is deployed yet"),
    h("p", {}, "In a shell on the platform's machine, make one and deploy it:"),
    h("pre", {}, "trunkline init my-agent\ntrunkline deploy my-agent"),
    h("p", { class: "dim" }, "An agent that is there already: ", h("code", {}, "trunkline deploy"), " beside its ", h("code", {}, "agent.yaml"), "."),
  );
  const problem = h("p", { class: "alert", role: "alert", hidden: true });

  const lookAtAgents = async () => {
    try {
      const agents = await api.list("/agents", signal);
      problem.hidden = true;
      agents.sort((a, b) => a.name.localeCompare(b.name));
      tiles.agents.set(agents.length);
      tiles.errors.set(agents.reduce((sum, agent) => sum + agent.errors_today, 0));
      empty.hidden = agents.length > 0;
      keepRows(list, agents, (agent) => agent.name, agentRow);
    } catch (error) {
      if (signal.aborted) throw error;
      problem.hidden = false;
      setText(problem, error.message);
    }
  };
  const lookAtPlatform = async () => {
    const metrics = await api.metrics(signal);
    const running = metrics.sum("trunkline_sessions_running");
    const sockets = metrics.sum("trunkline_connections");
    tiles.sessions.set(running);
    tiles.sockets.set(sockets);
    tiles.refused.set(metrics.sum("trunkline_upgrades_total", ({ status }) => status !== "101"));
    chart.add([sockets, running]);
  };
  void poll(lookAtAgents, LOOK_MS, signal);
  void poll(lookAtPlatform, LOOK_MS, signal);

  return {
    title: "Agents",
    body: [
      problem,
      h("div", { class: "tiles" }, Object.values(tiles).map(({ element }) => element)),
      empty,
      card("Now", {}, chart.element),
      list,
    ],
  };
}

function agentRow({ name }) {
  const href = `#/agents/${encodeURIComponent(name)}`;
  const state = pill("enabled");
  const version = h("span", { class: "dim" });
  const now = h("span", { class: "dim" });
  const errors = h("span", {});
  const says = h("p", { class: "dim" });
  const protocols = h("ul", { class: "chips", "aria-label": "Protocols" });
  const talk = h(
    "a",
    { class: "button primary", href: `${href}/talk`, "aria-label": `Talk to ${name}` },
    icon("mic"),
    h("span", {}, "Talk"),
  );
  const element = h(
    "li",
    { class: "card agent" },
    h(
      "div",
      { class: "agent-words" },
      h("div", { class: "row" }, h("h2", {}, h("a", { href }, name)), state),
      says,
      h("div", { class: "row" }, protocols, version, now, errors),
    ),
    talk,
  );
  const update = (agent) => {
    const latest = agent.versions.latest;
    setPill(state, agent.state === "disabled" ? "disabled" : (latest?.status ?? "no version"));
    setText(version, latest ? `version ${latest.version}` : "drafts only");
    setText(now, `${count(agent.running_sessions, "session")} running, ${count(agent.open_connections, "socket")} open`);
    setText(errors, agent.errors_today ? `${count(agent.errors_today, "error")} today` : "no errors today");
    errors.className = agent.errors_today ? "wrong" : "dim";
    setText(says, latest?.description ?? "");
    const spoken = Object.keys(agent.agent_endpoint.protocol_configuration);
    talk.hidden = !spoken.includes("invocations_ws");
    keepRows(protocols, spoken, String, (protocol) => ({
      element: h("li", {}, protocol),
      update() {},
    }));
  };
  return { element, update };
}
