/** One agent: where it is reached, its versions, its sessions. */

import { poll } from "../api.js";
import { TimeChart } from "../parts/charts.js";
import { button, copy, h, icon, iconButton, keepRows, note, setText } from "../parts/dom.js";
import { card, pill, setPill, setSince, since, table, trail } from "../parts/pieces.js";
import { FRAMES, UsageRates } from "../parts/rates.js";
import { percent, rate, size } from "../parts/words.js";

const LOOK_MS = 2000;
const STATES = [
  { name: "active", colour: "accent" },
  { name: "creating", colour: "busy" },
  { name: "idle", colour: "dim" },
  { name: "failed", colour: "bad" },
];

export function agentPage({ api, signal }, name) {
  const path = `/agents/${name}`;
  const here = `#/agents/${encodeURIComponent(name)}`;
  const state = pill("…");
  const says = h("p", { class: "lead" });
  const problem = h("p", { class: "alert", role: "alert", hidden: true });
  /** What is of no use where there is no such agent. */
  const parts = [];
  const talk = h("a", { class: "button primary", href: `${here}/talk` }, icon("mic"), h("span", {}, "Talk"));
  const toggle = button("Disable", { press: () => change() });
  const endpoints = h("dl", { class: "endpoints" });
  const versions = table("Versions", ["Version", "Status", "Made", "New sessions", "Build"]);
  const sessions = table("Sessions", [
    "Session",
    "Status",
    "Version",
    "#Sockets",
    "#Frames/s up",
    "#Frames/s down",
    "#Processor",
    "#Memory",
    "Last used",
  ]);
  const chart = new TimeChart("Your sessions by state over the last five minutes", STATES, signal, { stacked: true });
  const frames = new TimeChart("Frames a second over the last five minutes", FRAMES, signal);
  const rates = new Map();
  const log = h("pre", { class: "log short", tabindex: "0", hidden: true, "aria-label": "Build log" });

  async function change() {
    const verb = state.textContent === "disabled" ? "enable" : "disable";
    try {
      await api.send("POST", `${path}:${verb}`);
      await look();
    } catch (error) {
      note(error.message, "bad");
    }
  }

  async function look() {
    try {
      const agent = await api.get(path, {}, signal);
      const all = await api.list(`${path}/versions`, signal, { most: 100 });
      problem.hidden = true;
      for (const part of parts) part.hidden = false;
      const isEnabled = agent.state !== "disabled";
      setPill(state, isEnabled ? (agent.versions.latest?.status ?? "no version") : "disabled");
      setText(toggle.lastElementChild, isEnabled ? "Disable" : "Enable");
      setText(says, agent.versions.latest?.description ?? "");
      const spoken = Object.keys(agent.agent_endpoint.protocol_configuration);
      talk.hidden = !spoken.includes("invocations_ws");
      keepRows(endpoints, addresses(api, name, spoken), ({ title }) => title, endpointRow);
      const shares = sharesOf(agent, all);
      keepRows(versions.body, all, (v) => v.version, (v) => versionRow(v, shares, showLog));
      versions.say(all.length ? "" : "There are drafts only.");
    } catch (error) {
      if (signal.aborted) throw error;
      problem.hidden = false;
      setText(problem, error.message);
      for (const part of parts) part.hidden = [403, 404].includes(error.status);
    }
  }

  async function lookAtSessions() {
    const all = await api.list(`${path}/endpoint/sessions`, signal, { include: "usage" });
    const seen = new Map(all.map((s) => [s.agent_session_id, rates.get(s.agent_session_id) ?? new UsageRates()]));
    rates.clear();
    const shown = all.map((session) => {
      const own = seen.get(session.agent_session_id);
      rates.set(session.agent_session_id, own);
      return { ...session, rates: own.of(session.usage) };
    });
    keepRows(sessions.body, shown, (s) => s.agent_session_id, (s) => sessionRow(s, here));
    frames.add(["up", "down"].map((way) => shown.reduce((sum, s) => sum + (s.rates[way] || 0), 0)));
    sessions.say(all.length ? "" : "You have none. Talking to the agent makes one.");
    chart.add(STATES.map(({ name: wanted }) => all.filter(({ status }) => status === wanted).length));
  }

  async function showLog(version) {
    const response = await api.send("GET", `${path}/versions/${version}/buildlog`, { signal }).catch((error) => error);
    log.hidden = false;
    log.textContent = response instanceof Error ? response.message : (await response.text()) || "It printed nothing.";
    log.focus();
  }

  const actions = h("div", { class: "row end" }, toggle, talk);
  const body = [
    card("Endpoints", {}, endpoints),
    card("Versions", {}, versions.element, log),
    card("Sessions", {}, h("div", { class: "columns" }, chart.element, frames.element), sessions.element),
  ];
  parts.push(state, actions, ...body);
  void poll(look, LOOK_MS, signal);
  void poll(lookAtSessions, LOOK_MS, signal);

  return {
    title: name,
    head: h(
      "div",
      {},
      trail([["Agents", "#/"]]),
      h("div", { class: "row title" }, h("h1", { tabindex: "-1" }, name), state, actions),
      says,
    ),
    body: [problem, ...body],
  };
}

function addresses(api, name, spoken) {
  const base = `${api.endpoint.url}/agents/${name}/endpoint/protocols`;
  const socket = api.endpoint.websocketUrl(name, "SESSION").href.replace("&agent_session_id=SESSION", "");
  const preview = api.endpoint.websocketUrl(name, "SESSION", { form: "dispatcher" }).href;
  const found = [];
  if (spoken.includes("invocations_ws")) {
    found.push({ title: "WebSocket", address: socket });
    found.push({ title: "WebSocket, preview form", address: preview.replace("&agent_session_id=SESSION", "") });
  }
  if (spoken.includes("invocations")) found.push({ title: "Invocations", address: `${base}/invocations?api-version=v1` });
  if (spoken.includes("responses")) found.push({ title: "Responses", address: `${base}/openai/responses?api-version=v1` });
  return found;
}

function endpointRow({ title, address }) {
  const element = h(
    "div",
    {},
    h("dt", {}, title),
    h("dd", {}, h("code", {}, address), iconButton(`Copy the ${title} address`, "copy", () => copy(address, title))),
  );
  return { element, update() {} };
}

/** Which part of the new sessions each version gets. */
function sharesOf(agent, versions) {
  const built = versions.find(({ status, draft }) => status === "active" && !draft);
  const shares = new Map();
  for (const rule of agent.agent_endpoint.version_selector.version_selection_rules) {
    const version = rule.agent_version === "@latest" ? built?.version : rule.agent_version;
    shares.set(version, (shares.get(version) ?? 0) + rule.traffic_percentage);
  }
  return shares;
}

function versionRow(first, shares, showLog) {
  const status = pill(first.status);
  const why = h("span", { class: "dim" });
  const share = h("td", {});
  const element = h(
    "tr",
    {},
    h("th", { scope: "row" }, first.version, first.draft && h("span", { class: "dim" }, " draft")),
    h("td", { class: "words" }, status, " ", why),
    h("td", {}, since(first.created_at)),
    share,
    h("td", {}, button("Log", { kind: "small", "aria-label": `Build log of version ${first.version}`, press: () => showLog(first.version) })),
  );
  const update = (version) => {
    setPill(status, version.status);
    setText(why, version.error?.message ?? "");
    const part = shares.get(version.version) ?? 0;
    setText(share, part ? `${part} %` : "–");
  };
  return { element, update };
}

function sessionRow(first, here) {
  const id = first.agent_session_id;
  const status = pill(first.status);
  const used = since(first.last_accessed_at);
  const [sockets, up, down, cpu, memory] = Array.from({ length: 5 }, () => h("td", { class: "number" }));
  const element = h(
    "tr",
    {},
    h("th", { scope: "row" }, h("a", { class: "mono", href: `${here}/sessions/${encodeURIComponent(id)}` }, id)),
    h("td", {}, status),
    h("td", {}, first.version_indicator.agent_version),
    sockets,
    up,
    down,
    cpu,
    memory,
    h("td", {}, used),
  );
  const update = ({ status: state, usage, rates, last_accessed_at: at }) => {
    setPill(status, state);
    setSince(used, at);
    setText(sockets, usage ? String(usage.open_connections) : "–");
    setText(up, rate(rates.up));
    setText(down, rate(rates.down));
    setText(cpu, usage?.cpu === null ? "not measured" : percentOf(rates.cpu, usage?.cpu.limit));
    setText(memory, usage?.memory === null ? "not measured" : usage ? size(usage.memory.used_bytes) : "–");
  };
  return { element, update };
}

function percentOf(used, limit) {
  return Number.isNaN(used) ? "–" : percent(used / limit);
}
