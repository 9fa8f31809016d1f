"""Renders ``docs/reference/settings.md`` from the settings classes: run as a module to print it."""

from trunkline.auth.rates import RateSettings
from trunkline.config import describe
from trunkline.platform.settings import COMPONENTS

TITLES = {
    "gateway": "The gateway",
    "auth": "Who may come in",
    "rates": "How often they may ask",
    "console": "Who signs in to the console",
    "control": "The control plane",
    "store": "The store",
    "sessions": "Sessions",
    "process": "The process runtime",
}
HEAD = "\n".join(
    [
        "# Settings",
        "",
        "Every limit and timeout has a name, a default and a reason. A setting is an environment "
        "variable of the platform's process; a wrong value, or a variable that starts with "
        "`TRUNKLINE_` and sets nothing, stops the start with a line that says what would be right. "
        "Numbers are written without a unit: the end of a name says what they count (`_s` seconds, "
        "`_bytes` bytes).",
        "",
        "When a limit closes a connection or refuses a request, the reason or the answer names it "
        "by the end of its variable: `max_connections` is `TRUNKLINE_GATEWAY_MAX_CONNECTIONS`.",
        "",
        "`TRUNKLINE_HOME` is the state directory (default: the user's data directory); "
        "`--state-dir` overrides it. `TRUNKLINE_ENDPOINT` and `TRUNKLINE_TOKEN` are for the "
        "commands that talk to a platform; see [the command line](cli.md).",
        "",
    ]
)


#: What holds for every setting of a table, and is said above it.
INTROS = {
    "gateway": "The first refusal by a limit is a line in the log that names its variable, with "
    "the later ones of a minute left out; `trunkline_limit_refusals_total` in `/metrics` counts "
    "all of them, by limit. Of what became of one connection `trunkline why` tells.",
    "rates": " ".join((RateSettings.__doc__ or "").split()),
}


def render() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for component, settings in COMPONENTS.items():
        parts.append(
            f"\n## {TITLES[component]}\n\n"
            + (f"{INTROS[component]}\n\n" if component in INTROS else "")
            + "| Variable | Default | Meaning |\n|---|---|---|\n"
        )
        for doc in describe(component, settings):
            default = doc.default
            if isinstance(default, tuple):
                default = ",".join(default)
            shown = "" if default in (None, "") else f"`{default}`"
            parts.append(f"| `{doc.variable}` | {shown} | {doc.text} |\n")
    return "".join(parts)


if __name__ == "__main__":
    print(render(), end="")
