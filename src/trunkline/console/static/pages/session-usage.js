/** What a session uses of what it may have, and how much goes over its connections. */

import { TimeChart } from "../parts/charts.js";
import { h } from "../parts/dom.js";
import { card, meter, tile } from "../parts/pieces.js";
import { FRAMES, UsageRates } from "../parts/rates.js";
import { percent, rate, size } from "../parts/words.js";

export function usageCard({ signal }) {
  const rates = new UsageRates();
  const cpu = meter("Processor", "of what it may use; 100 % is its limit");
  const memory = meter("Memory", "what files keep in memory is included");
  const tiles = {
    sockets: tile("Sockets open", "WebSocket connections now"),
    up: tile("Sent to the agent", "over all connections since its process began"),
    down: tile("Sent by the agent", "over all connections since its process began"),
  };
  const chart = new TimeChart("Frames a second over the last five minutes", FRAMES, signal);

  /** @param {any} usage Null if it doesn't run. */
  function update(usage) {
    const now = rates.of(usage);
    chart.add([now.up, now.down]);
    if (!usage) {
      for (const each of [cpu, memory]) each.set("not running", NaN);
      for (const each of Object.values(tiles)) each.set("–");
      return;
    }
    if (usage.cpu === null) cpu.set("not measured", NaN);
    else {
      const part = now.cpu / usage.cpu.limit;
      cpu.set(Number.isNaN(part) ? "–" : `${percent(part)} of ${rate(usage.cpu.limit)} CPU`, part);
    }
    if (usage.memory === null) memory.set("not measured", NaN);
    else {
      const { used_bytes: used, limit_bytes: limit } = usage.memory;
      memory.set(`${size(used)} of ${size(limit)}`, used / limit);
    }
    tiles.sockets.set(usage.open_connections);
    tiles.up.set(`${usage.in.frames.toLocaleString()} · ${size(usage.in.bytes)}`);
    tiles.down.set(`${usage.out.frames.toLocaleString()} · ${size(usage.out.bytes)}`);
  }

  const all = [cpu, memory, ...Object.values(tiles)];
  const element = card("Now", {}, h("div", { class: "tiles inner" }, all.map((each) => each.element)), chart.element);
  return { element, update };
}
