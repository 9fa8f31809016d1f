/** Makes and changes elements. Text is only ever text: nothing here parses markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an element.
 * @param {string} tag
 * @param {Record<string, any>} [props] `on`: listeners by event; `class`; what is an own property
 *   of elements (value, checked, disabled, hidden, ...) is set as that; everything else is an
 *   attribute. Null, undefined and false are left out.
 * @param {...(Node | string | null | undefined | false | Array<any>)} children
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  setProps(element, props);
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "indeterminate", "tabIndex"]);

function setProps(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (PROPERTIES.has(name)) element[name] = value;
    else if (value === null || value === undefined || value === false) continue;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Small pictures, drawn with one stroke; they say nothing that isn't said beside them. */
const ICONS = {
  mic: "M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3ZM5 11a7 7 0 0 0 14 0M12 18v3",
  micOff: "M9 9v3a3 3 0 0 0 5 2.2M15 11V6a3 3 0 0 0-5.7-1.3M5 11a7 7 0 0 0 11 5.7M19 11c0 .7-.1 1.4-.3 2M12 18v3M4 4l16 16",
  phone: "M5 4h4l2 5-2.5 1.5a11 11 0 0 0 5 5L15 13l5 2v4a1 1 0 0 1-1 1A16 16 0 0 1 4 5a1 1 0 0 1 1-1Z",
  hangUp: "M3 14c5-5 13-5 18 0l-2 3-4-1.500v-2.500c-2-.7-4-.7-6 0v2.500L5 17Z",
  send: "M4 12l16-8-6 16-3-6.500ZM11 13.500 20 4",
  copy: "M9 9h10v11H9ZM15 9V4H5v11h4",
  stop: "M7 7h10v10H7Z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  upload: "M12 16V5M7 9l5-5 5 5M5 20h14",
  folder: "M3 6h6l2 2h10v11H3Z",
  file: "M7 3h7l4 4v14H7ZM14 3v4h4",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500 19 19M19 5l-1.500 1.500M6.500 17.500 5 19",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10Z",
  out: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
  record: "M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10Z",
  play: "M8 5l11 7-11 7Z",
  back: "M14 6l-6 6 6 6",
  plus: "M12 5v14M5 12h14",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with a picture and words. @param {string} label */
export function button(label, { name, kind = "", press, title, ...rest } = {}) {
  return h(
    "button",
    { type: "button", class: `button ${kind}`, title, on: press ? { click: press } : {}, ...rest },
    name && icon(name),
    h("span", {}, label),
  );
}

/** A button that is a picture only; `label` is its name. @param {string} label */
export function iconButton(label, name, press, rest = {}) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: press }, ...rest },
    icon(name),
  );
}

/** Set an element's text only if it changes, which a screen reader would otherwise say again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keep a container's children in step with a list: each item has an element of its own, which is
 * changed in place.
 * @template T
 * @param {Element} container
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => {element: Element, update: (item: T, ...shared: any[]) => void}} make
 * @param {...any} shared What every update gets besides its item.
 */
export function keepRows(container, items, keyOf, make, ...shared) {
  const rows = (container._rows ??= new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of rows) {
    if (!wanted.has(key)) {
      row.element.remove();
      rows.delete(key);
    }
  }
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    let row = rows.get(key);
    if (row === undefined) rows.set(key, (row = make(item)));
    row.update(item, ...shared);
    const expected = before === null ? container.firstElementChild : before.nextElementSibling;
    if (expected !== row.element) container.insertBefore(row.element, expected);
    before = row.element;
  }
}

/** Tell something in passing. @param {string} text */
export function note(text, kind = "") {
  const element = h("p", { class: `note ${kind}` }, text);
  document.getElementById("notes").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 9000 : 4000);
}

/** Put text on the clipboard, and say so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    note(`${what} copied`);
  } catch {
    note(`the browser didn't let ${what} be copied`, "bad");
  }
}

/** Have the browser save what is in memory. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * Ask before something that can't be taken back.
 * @returns {Promise<boolean>}
 */
export function confirmed(question, details, action) {
  return new Promise((resolve) => {
    const done = (value) => () => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", on: { cancel: done(false) } },
      h("h2", { id: "question" }, question),
      h("p", {}, details),
      h(
        "div",
        { class: "row end" },
        button("Cancel", { press: done(false) }),
        button(action, { kind: "danger", press: done(true) }),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
