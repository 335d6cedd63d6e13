/* Findings on a page: folds that open for the address, links and citations that are copied. */
"use strict";
{
  const target = () => document.getElementById(decodeURIComponent(location.hash.slice(1)));

  function open() {
    const found = target();
    if (!found) return;
    for (let each = found; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    found.scrollIntoView();
  }

  async function copy(text, sign) {
    await navigator.clipboard.writeText(text);
    const said = sign.dataset.said ??= sign.textContent;
    sign.textContent = "copied";
    setTimeout(() => { sign.textContent = said; }, 1200);
  }

  document.addEventListener("click", async (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest?.(".atlas-permalink, [data-atlas-copy]");
    if (!link || !navigator.clipboard) return;
    if (link.matches(".atlas-permalink")) { // goes there too
      copy(link.href, link);
    } else {
      event.preventDefault();
      copy(await (await fetch(link.href)).text(), link);
    }
  });
  window.addEventListener("hashchange", open);
  open();

  window.headatlasCopy = copy;
}
