// Runs before the first paint, so that a chosen theme doesn't flash. A module would run after it.
try {
  const chosen = localStorage.getItem("trunkline.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Without storage the system's theme is used.
}
