/** Pictures of numbers over time, drawn on canvases. What they show is said in words beside them. */

import { h } from "./dom.js";
import { duration, percentile, rate } from "./words.js";

/** A canvas that is as sharp as the screen and drawn again when its size or the theme changes. */
class Picture {
  /**
   * @param {string} label What a screen reader says.
   * @param {AbortSignal} signal
   */
  constructor(label, signal, height) {
    this.canvas = h("canvas", { role: "img", "aria-label": label, class: "chart" });
    this.canvas.style.height = `${height}px`;
    this.height = height;
    this.element = this.canvas;
    const watcher = new ResizeObserver(() => this.draw());
    watcher.observe(this.canvas);
    const redraw = () => this.draw();
    addEventListener("theme", redraw, { signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });
    signal.addEventListener("abort", () => watcher.disconnect(), { once: true });
  }

  /** @returns {{pen: CanvasRenderingContext2D, width: number, height: number, colour: (name: string) => string}} */
  begin() {
    const { canvas, height } = this;
    const width = canvas.clientWidth;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    return { pen, width, height, colour: coloursOf(canvas) };
  }

  draw() {}
}

/** Colours by their names in the style sheet, as they are in the theme of the moment. */
function coloursOf(canvas) {
  const known = new Map();
  return (name) => {
    if (!known.has(name)) {
      canvas.style.color = `var(--${name})`;
      known.set(name, getComputedStyle(canvas).color);
    }
    return known.get(name);
  };
}

/**
 * A picture's figures as a table, which is made anew each time somebody opens it.
 * @param {string} label
 * @param {string[]} columns
 * @param {() => string[][]} rows
 */
function asNumbers(label, columns, rows) {
  const body = h("tbody", {});
  const line = (cells) => h("tr", {}, h("th", { scope: "row" }, cells[0]), cells.slice(1).map((cell) => h("td", {}, cell)));
  const table = h(
    "div",
    { class: "table-box numbers", tabindex: "0", role: "region", "aria-label": `${label}, as numbers` },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, label),
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
      body,
    ),
  );
  const box = h("details", {}, h("summary", {}, "As numbers"), table);
  box.addEventListener("toggle", () => {
    if (box.open) body.replaceChildren(...rows().map(line));
  });
  return box;
}

function figure(label, ...parts) {
  return h("figure", { class: "chart-box" }, h("figcaption", { class: "dim" }, label), parts);
}

const MARGIN = { left: 54, right: 8, top: 10, bottom: 18 };

function scaleTo(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= most);
}

function axis(pen, { width, height, colour }, most, unit = "") {
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.lineWidth = 1;
  for (const part of [0, 0.5, 1]) {
    const y = height - MARGIN.bottom - part * (height - MARGIN.top - MARGIN.bottom);
    pen.strokeStyle = colour("line");
    pen.beginPath();
    pen.moveTo(MARGIN.left, Math.round(y) + 0.5);
    pen.lineTo(width - MARGIN.right, Math.round(y) + 0.5);
    pen.stroke();
    pen.fillStyle = colour("dim");
    const value = most * part;
    pen.fillText(`${Number.isInteger(value) ? value : value.toFixed(1)}${part === 1 ? unit : ""}`, MARGIN.left - 5, y);
  }
}

/** Several numbers over the last few minutes, one above the other or each by itself. */
export class TimeChart extends Picture {
  #points = [];
  #series;
  #spanS;
  #stacked;

  /**
   * @param {string} label
   * @param {{name: string, colour: string}[]} series
   * @param {AbortSignal} signal
   */
  constructor(label, series, signal, { spanS = 300, stacked = false, height = 140 } = {}) {
    super(label, signal, height);
    this.#series = series;
    this.#spanS = spanS;
    this.#stacked = stacked;
    this.key = h("ul", { class: "legend" });
    this.values = series.map(({ name, colour }) => {
      const value = h("b", {}, "–");
      this.key.append(h("li", {}, h("i", { class: `swatch ${colour}` }), name, " ", value));
      return value;
    });
    const numbers = asNumbers(label, ["When", ...series.map(({ name }) => name)], () => this.#rows());
    this.element = figure(label, this.canvas, this.key, numbers);
  }

  /** @param {number[]} values One for each series; NaN where it isn't known. */
  add(values) {
    const at = performance.now() / 1000;
    this.#points.push({ at, values: values.map((value) => (Number.isNaN(value) ? 0 : value)) });
    while (this.#points[0].at < at - this.#spanS - 10) this.#points.shift();
    values.forEach((value, i) => (this.values[i].textContent = rate(value)));
    this.draw();
  }

  /** The newest first, a few for all of the span. */
  #rows() {
    const now = performance.now() / 1000;
    const rows = [];
    let next = Infinity;
    for (const { at, values } of [...this.#points].reverse()) {
      if (at > next) continue;
      next = at - this.#spanS / 20;
      rows.push([`${duration(now - at)} ago`, ...values.map(rate)]);
    }
    return rows;
  }

  draw() {
    const sheet = this.begin();
    const { pen, width, height, colour } = sheet;
    const points = this.#points;
    const top = (p) => (this.#stacked ? p.values.reduce((a, b) => a + b, 0) : Math.max(...p.values));
    const most = scaleTo(Math.max(2, ...points.map(top)));
    axis(pen, sheet, most);
    if (points.length === 0) return;
    const now = points.at(-1).at;
    const x = (at) => width - MARGIN.right - ((now - at) / this.#spanS) * (width - MARGIN.left - MARGIN.right);
    const y = (v) => height - MARGIN.bottom - (v / most) * (height - MARGIN.top - MARGIN.bottom);
    pen.save();
    pen.beginPath();
    pen.rect(MARGIN.left, 0, width - MARGIN.left, height);
    pen.clip();
    this.#series.forEach(({ colour: name }, i) => {
      // A line of nothing would lie on top of the one below it.
      if (this.#stacked && points.every((p) => p.values[i] === 0)) return;
      const sum = (p, to) => (this.#stacked ? p.values.slice(0, to).reduce((a, b) => a + b, 0) : p.values[to - 1]);
      pen.beginPath();
      points.forEach((p, k) => pen[k ? "lineTo" : "moveTo"](x(p.at), y(sum(p, i + 1))));
      pen.strokeStyle = colour(name);
      pen.lineWidth = 2;
      pen.lineJoin = "round";
      pen.stroke();
      for (const p of [...points].reverse()) pen.lineTo(x(p.at), y(this.#stacked ? sum(p, i) : 0));
      pen.closePath();
      pen.globalAlpha = 0.14;
      pen.fillStyle = colour(name);
      pen.fill();
      pen.globalAlpha = 1;
    });
    pen.restore();
    pen.fillStyle = colour("dim");
    pen.textAlign = "left";
    pen.fillText(`${Math.round(this.#spanS / 60)} min ago`, MARGIN.left, height - 6);
    pen.textAlign = "right";
    pen.fillText("now", width - MARGIN.right, height - 6);
  }
}

/** One bar for each of the last measurements, with lines at the middle one and at the slow ones. */
export class LatencyChart extends Picture {
  #values = [];

  /** @param {string} label @param {AbortSignal} signal */
  constructor(label, signal, { most = 40, height = 140 } = {}) {
    super(label, signal, height);
    this.most = most;
    const numbers = asNumbers(label, ["Turn", "Time"], () =>
      this.#values.map((ms, i) => [String(i + 1), duration(ms / 1000)]).reverse(),
    );
    this.element = figure(label, this.canvas, numbers);
  }

  /** @param {number} ms */
  add(ms) {
    this.#values.push(ms);
    if (this.#values.length > this.most) this.#values.shift();
    this.draw();
  }

  get values() {
    return this.#values;
  }

  draw() {
    const sheet = this.begin();
    const { pen, width, height, colour } = sheet;
    const most = scaleTo(Math.max(500, ...this.#values));
    axis(pen, sheet, most, " ms");
    const room = (width - MARGIN.left - MARGIN.right) / Math.max(20, this.#values.length);
    this.#values.forEach((ms, i) => {
      const tall = (ms / most) * (height - MARGIN.top - MARGIN.bottom);
      pen.fillStyle = colour("accent");
      pen.beginPath();
      pen.roundRect(MARGIN.left + i * room + 1, height - MARGIN.bottom - tall, Math.max(2, room - 3), tall, [3, 3, 0, 0]);
      pen.fill();
    });
    if (this.#values.length > 1) this.#drawPercentiles(sheet, most);
  }

  #drawPercentiles({ pen, width, height, colour }, most) {
    const yOf = (part) => height - MARGIN.bottom - (percentile(this.#values, part) / most) * (height - MARGIN.top - MARGIN.bottom);
    const [middle, slow] = [yOf(0.5), yOf(0.95)];
    // Where one line is nearly the other, one name would lie on the other.
    const isOne = middle - slow < 14;
    const lines = isOne ? [[slow, "p50, p95", "second"]] : [[middle, "p50", "dim"], [slow, "p95", "second"]];
    pen.textAlign = "right";
    for (const [y, name, tone] of lines) {
      pen.strokeStyle = pen.fillStyle = colour(tone);
      pen.setLineDash([5, 4]);
      pen.beginPath();
      pen.moveTo(MARGIN.left, y);
      pen.lineTo(width - MARGIN.right, y);
      pen.stroke();
      pen.setLineDash([]);
      pen.fillText(name, width - MARGIN.right, y - 7);
    }
  }
}

/** Two loudnesses over the last seconds: who speaks is above the line, who is heard below. */
export class VoiceStrip extends Picture {
  #bars = [];
  #pending = { up: 0, down: 0 };

  /** @param {string} label @param {AbortSignal} signal */
  constructor(label, signal, { height = 128 } = {}) {
    super(label, signal, height);
    this.canvas.classList.add("voice");
  }

  /** @param {"up" | "down"} side @param {number} level From 0 to 1. */
  hear(side, level) {
    this.#pending[side] = Math.max(this.#pending[side], level);
  }

  /** Move on by one bar. */
  step() {
    this.#bars.push({ ...this.#pending });
    this.#pending = { up: 0, down: 0 };
    if (this.#bars.length > 400) this.#bars.shift();
    this.draw();
  }

  draw() {
    const { pen, width, height, colour } = this.begin();
    const middle = height / 2;
    const room = 5;
    const shown = this.#bars.slice(-Math.floor(width / room));
    pen.fillStyle = colour("line");
    pen.fillRect(0, middle - 0.5, width, 1);
    shown.forEach(({ up, down }, i) => {
      const x = width - (shown.length - i) * room;
      for (const [level, side, name] of [
        [up, -1, "accent"],
        [down, 1, "second"],
      ]) {
        // Loudness is heard by its logarithm: -50 dB is nothing, 0 dB is all of the room.
        const part = level > 0 ? Math.max(0, 1 + Math.log10(level) / 2.5) : 0;
        if (part === 0) continue;
        const tall = part * (middle - 6);
        pen.fillStyle = colour(name);
        pen.beginPath();
        pen.roundRect(x, side < 0 ? middle - 2 - tall : middle + 2, 3, tall, 1.5);
        pen.fill();
      }
    });
  }
}
