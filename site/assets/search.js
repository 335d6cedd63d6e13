/* Search: a button and a key on every page; the box is in the page or in a dialog, and is loaded when it is needed. */
"use strict";
{
  const place = document.currentScript.src;
  const inPage = document.querySelector("[data-atlas-search]");
  let box = null;

  /** The box: in the page where the page has a place for it, or else in a dialog. */
  function ready() {
    return (box ??= new Promise((done) => {
      const script = document.createElement("script");
      script.src = new URL("search-box.js", place).href;
      script.addEventListener("load", () => done(inPage ? onPage() : inDialog()));
      document.head.append(script);
    }));
  }

  function onPage() {
    const made = headatlasSearch.box(inPage, Number(inPage.dataset.atlasSearch) || undefined, true);
    const asked = new URLSearchParams(location.search).get("q");
    if (asked) { made.input.value = asked; made.search(); }
    return made;
  }

  function inDialog() {
    const dialog = document.createElement("dialog");
    dialog.className = "atlas-search-dialog";
    dialog.setAttribute("aria-label", "Search");
    const made = headatlasSearch.box(dialog.appendChild(document.createElement("div")));
    document.body.append(dialog);
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    return { ...made, dialog };
  }

  let early = null; // what is typed after the key, before the box is there

  async function open() {
    early = "";
    const { input, search, dialog } = await ready();
    if (dialog && !dialog.open) dialog.showModal();
    input.focus();
    input.select();
    if (early) { input.value = early; search(); }
    early = null;
  }

  const button = document.createElement("button");
  button.type = "button";
  button.className = "atlas-search-button";
  button.setAttribute("aria-label", "Search");
  button.setAttribute("aria-keyshortcuts", "/");
  button.innerHTML = '<span aria-hidden="true">Search</span><kbd aria-hidden="true">/</kbd>';
  button.addEventListener("click", open);
  document.querySelector(".md-header__inner, .plain-header nav")?.append(button);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (early !== null && event.key.length === 1) { event.preventDefault(); early += event.key; return; }
    if (event.key !== "/") return;
    if (event.target.closest?.("input, textarea, select, dialog, [contenteditable]")) return;
    event.preventDefault();
    open();
  });
  if (inPage) ready();
  else addEventListener("load", () => {
    const soon = document.createElement("link");
    soon.rel = "prefetch";
    soon.href = new URL("search-box.js", place).href;
    document.head.append(soon);
  });
}
