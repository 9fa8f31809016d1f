/** Numbers and times as people read them. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number} bytes */
export function size(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** @param {number} unixSeconds */
export function ago(unixSeconds) {
  const seconds = Date.now() / 1000 - unixSeconds;
  if (seconds < 5) return "just now";
  if (seconds < 60) return "less than a minute ago";
  if (seconds < 3600) return count(Math.floor(seconds / 60), "minute") + " ago";
  if (seconds < 86_400) return count(Math.floor(seconds / 3600), "hour") + " ago";
  return count(Math.floor(seconds / 86_400), "day") + " ago";
}

/** @param {number} unixSeconds */
export function when(unixSeconds) {
  return new Date(unixSeconds * 1000).toLocaleString();
}

/** @param {Date} date */
export function clock(date) {
  return date.toLocaleTimeString([], { hour12: false }) + "." + String(date.getMilliseconds()).padStart(3, "0");
}

/** A rate, or a dash while it isn't known. @param {number} value */
export function rate(value) {
  if (Number.isNaN(value)) return "–";
  return value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 });
}

/** A part of a whole. @param {number} part */
export function percent(part) {
  return `${(100 * part).toLocaleString(undefined, { maximumFractionDigits: part < 0.1 ? 1 : 0 })} %`;
}

/** @param {number} n */
export function count(n, thing) {
  return `${n.toLocaleString()} ${thing}${n === 1 ? "" : "s"}`;
}

/** Return the value below which a part of the values lies. @param {number[]} values */
export function percentile(values, part) {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)];
}
