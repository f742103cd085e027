// Chosen before the first paint, so that the page never flashes in the other colours. Not a module: it must not wait.
(() => {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
