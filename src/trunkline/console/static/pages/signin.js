/** Nobody has signed in. */

import { button, h, icon, setText } from "../parts/dom.js";

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
  const link = h(
    "section",
    { class: "card", hidden: true },
    h("h2", {}, "With a link"),
    h("p", {}, "On the platform's machine, this prints a link that signs you in, once:"),
    h("pre", {}, "trunkline console"),
    h("p", { class: "dim" }, h("code", {}, "trunkline up"), " prints one, too, when it starts."),
  );
  const provider = h("section", { class: "card", hidden: true });
  const wrong = h("p", { class: "alert", role: "alert", hidden: !problem }, problem);
  const fail = (error) => {
    wrong.hidden = false;
    setText(wrong, error.message);
  };
  const look = async () => {
    const ways = await signIn.ways();
    link.hidden = !ways.links;
    if (ways.provider === null) return;
    const { name, problem: trouble, end_session_endpoint: end } = ways.provider;
    const begin = button(`Sign in with ${name}`, {
      kind: "primary large",
      disabled: trouble !== undefined,
      press: () => signIn.begin(ways.provider).catch(fail),
    });
    provider.hidden = false;
    provider.replaceChildren(
      h("h2", {}, `With ${name}`),
      begin,
      ...(trouble === undefined ? [] : [h("p", { class: "dim" }, trouble)]),
      ...(signIn.leftProvider && end
        ? [h("p", { class: "dim" }, `${name} still knows you. `, h("a", { href: end }, "Sign out there, too"))]
        : []),
    );
  };
  look().catch(fail);
  const body = h(
    "div",
    { class: "narrow" },
    wrong,
    provider,
    link,
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
