/** Puts a page into the window, by the address behind the "#". */

import { Api } from "./api.js";
import { agentPage } from "./pages/agent.js";
import { agentsPage } from "./pages/agents.js";
import { sessionPage } from "./pages/session.js";
import { signInPage } from "./pages/signin.js";
import { talkPage } from "./pages/talk.js";
import { h, iconButton } from "./parts/dom.js";
import { SignIn } from "./signin.js";

const signIn = new SignIn();
const api = new Api(signIn);
const main = document.getElementById("main");
let leaving = new AbortController();

const ROUTES = [
  [/^$/, agentsPage],
  [/^agents\/([^/]+)$/, agentPage],
  [/^agents\/([^/]+)\/talk$/, talkPage],
  [/^agents\/([^/]+)\/sessions\/([^/]+)$/, sessionPage],
];

function show(problem) {
  leaving.abort();
  leaving = new AbortController();
  drawBar();
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const context = { api, signIn, signal: leaving.signal, query: new URLSearchParams(search) };
  if (signIn.user === null) {
    place(signInPage(context, problem));
    return;
  }
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(path);
    if (match) {
      place(page(context, ...match.slice(1).map(decodeURIComponent)));
      return;
    }
  }
  place({ title: "Nothing here", body: h("p", {}, "There is no such page. ", h("a", { href: "#/" }, "To the agents")) });
}

/** @param {{title: string, head?: Node, body: Node | Node[]}} page */
function place({ title, head, body }) {
  document.title = `${title} · trunkline`;
  const heading = head ?? h("h1", { tabindex: "-1" }, title);
  main.replaceChildren(heading, ...[body].flat());
  main.scrollTo?.(0, 0);
  scrollTo(0, 0);
  (main.querySelector("h1") ?? main).focus({ preventScroll: true });
}

function drawBar() {
  const bar = document.getElementById("bar");
  bar.replaceChildren(
    h("a", { class: "brand", href: "#/" }, h("img", { src: "mark.svg", alt: "", width: 26, height: 26 }), "trunkline"),
    h(
      "nav",
      { "aria-label": "Pages" },
      signIn.user !== null && h("a", { href: "#/", "aria-current": /^#?\/?$/.test(location.hash) && "page" }, "Agents"),
    ),
    h(
      "div",
      { class: "row end" },
      signIn.user !== null && h("span", { class: "who", title: "Signed in as" }, signIn.user),
      themeButton(),
      signIn.user !== null && iconButton("Sign out", "out", () => signIn.signOut()),
    ),
  );
}

function themeButton() {
  const root = document.documentElement;
  const isDark = () =>
    (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const made = iconButton(isDark() ? "Light theme" : "Dark theme", isDark() ? "sun" : "moon", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("trunkline.theme", root.dataset.theme);
    } catch {
      // It holds until the page is left.
    }
    drawBar();
    dispatchEvent(new Event("theme"));
  });
  return made;
}

addEventListener("hashchange", async () => {
  if (location.hash.startsWith("#key=")) await enter();
  else if (location.hash !== "#main") show();
});
signIn.addEventListener("change", () => show());

async function enter() {
  try {
    await signIn.useLink();
    await signIn.useAnswer();
    show();
  } catch (error) {
    show(error.message);
  }
}

await enter();
