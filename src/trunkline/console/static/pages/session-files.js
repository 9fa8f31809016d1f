/** The files in a session's home. */

import { sessionPath } from "../api.js";
import { button, confirmed, h, icon, iconButton, note, save } from "../parts/dom.js";
import { card, since, table } from "../parts/pieces.js";
import { size } from "../parts/words.js";

export function filesCard({ api, signal }, agent, id) {
  const files = table("Files", ["Name", "Size", "Changed", "Actions"]);
  const trail = h("nav", { class: "trail", "aria-label": "Folder" });
  const chooser = h("input", { type: "file", multiple: true, hidden: true, id: "upload", "aria-label": "Files to upload" });
  let folder = "";

  async function open(path) {
    try {
      const found = await api.get(sessionPath(agent, id, "/files"), { path: path || "." }, signal);
      folder = path;
      files.body.replaceChildren(...found.entries.map(row));
      files.say(found.entries.length ? "" : "There is nothing here yet. Drop files here to upload them.");
      const parts = folder.split("/").filter(Boolean);
      trail.replaceChildren(
        way("home", ""),
        ...parts.map((name, i) => way(name, parts.slice(0, i + 1).join("/"))),
      );
    } catch (error) {
      if (signal.aborted) return;
      files.say(error.message);
    }
  }

  const way = (name, path) => h("button", { type: "button", class: "link", on: { click: () => open(path) } }, name);

  function row(entry) {
    const name = entry.is_dir
      ? h("button", { type: "button", class: "link", on: { click: () => open(entry.path) } }, icon("folder"), entry.name)
      : h("span", { class: "row" }, icon("file"), entry.name);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      h("td", {}, entry.is_dir ? "" : size(entry.size)),
      h("td", {}, since(entry.modified_time)),
      h(
        "td",
        { class: "actions" },
        !entry.is_dir && iconButton(`Download ${entry.name}`, "download", () => download(entry)),
        iconButton(`Delete ${entry.name}`, "trash", () => remove(entry)),
      ),
    );
  }

  async function attempt(what) {
    try {
      await what();
    } catch (error) {
      note(error.message, "bad");
    }
  }

  const download = (entry) =>
    attempt(async () => {
      const response = await api.send("GET", sessionPath(agent, id, "/files/content"), { query: { path: entry.path } });
      save(await response.blob(), entry.name);
    });

  const remove = (entry) =>
    attempt(async () => {
      const details = entry.is_dir ? "It goes with all that is in it." : "It can't be taken back.";
      if (!(await confirmed(`Delete ${entry.name}?`, details, "Delete"))) return;
      await api.send("DELETE", sessionPath(agent, id, "/files"), { query: { path: entry.path, recursive: entry.is_dir } });
      await open(folder);
    });

  const upload = (chosen) =>
    attempt(async () => {
      for (const file of chosen) {
        const path = folder ? `${folder}/${file.name}` : file.name;
        await api.send("PUT", sessionPath(agent, id, "/files/content"), { query: { path }, body: file });
        note(`${file.name} is uploaded`);
      }
      await open(folder);
    });

  chooser.addEventListener("change", async () => {
    await upload([...chooser.files]);
    chooser.value = "";
  });
  const box = card(
    "Files",
    {
      actions: [
        button("Refresh", { press: () => open(folder) }),
        button("Upload", { name: "upload", press: () => chooser.click() }),
        chooser,
      ],
    },
    trail,
    files.element,
  );
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("dropping");
  });
  box.addEventListener("dragleave", () => box.classList.remove("dropping"));
  box.addEventListener("drop", async (event) => {
    event.preventDefault();
    box.classList.remove("dropping");
    await upload([...event.dataTransfer.files]);
  });
  void open("");
  return box;
}
