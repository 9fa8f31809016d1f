/** Nobody has signed in. */

import { button, h, icon } from "../parts/dom.js";

export function signInPage({ signIn }, problem) {
  const field = h("textarea", {
    id: "token",
    rows: 4,
    spellcheck: "false",
    autocomplete: "off",
    placeholder: "eyJ…",
    "aria-describedby": "token-help",
  });
  const use = (event) => {
    event.preventDefault();
    const token = field.value.trim();
    field.value = "";
    if (token) signIn.useToken(token);
  };
  const body = h(
    "div",
    { class: "narrow" },
    problem && h("p", { class: "alert", role: "alert" }, problem),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "With a link"),
      h("p", {}, "On the platform's machine, this prints a link that signs you in, once:"),
      h("pre", {}, "trunkline console"),
      h("p", { class: "dim" }, h("code", {}, "trunkline up"), " prints one, too, when it starts."),
    ),
    h(
      "form",
      { class: "card", on: { submit: use } },
      h("h2", {}, "With a token"),
      h("label", { for: "token" }, "Bearer token"),
      field,
      h(
        "p",
        { class: "dim", id: "token-help" },
        "Of your identity provider, or what ",
        h("code", {}, "trunkline token"),
        " prints. It stays in this tab.",
      ),
      h("div", { class: "row end" }, button("Sign in", { kind: "primary", type: "submit" })),
    ),
  );
  const head = h("div", { class: "hero" }, icon("phone"), h("h1", { tabindex: "-1" }, "Sign in"));
  return { title: "Sign in", head, body };
}
