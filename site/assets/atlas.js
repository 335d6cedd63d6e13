/* Two things the pages can do where scripts run: filter and sort a table, and read attention token by token. */
"use strict";

/* --- tables: filters are a form, the address keeps what was chosen -------------------------------------------- */

function filters(form) {
  const table = document.getElementById(form.dataset.atlasFilters);
  const rows = [...table.tBodies[0].rows];
  const chosen = new URLSearchParams(location.search);
  for (const field of form.elements) if (field.name && chosen.has(field.name)) field.value = chosen.get(field.name);

  function apply() {
    const values = Object.fromEntries(new FormData(form));
    const words = values.q.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) &&
        ["stage", "status", "verdict"].every((name) => !values[name] || row.dataset[name] === values[name]);
      row.hidden = !fits;
      shown += fits;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length}`;
  }

  function keep() {
    const address = new URL(location);
    for (const [name, value] of new FormData(form)) {
      if (value) address.searchParams.set(name, value); else address.searchParams.delete(name);
    }
    history.replaceState(history.state, "", address);
  }

  form.addEventListener("input", () => { apply(); keep(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  sortable(table, rows, chosen);
  apply();
}

function sortable(table, rows, chosen) {
  const heads = [...table.tHead.rows[0].cells];

  function sort(column, direction) {
    const key = (row) => row.cells[column].dataset.order ?? row.cells[column].textContent.trim().toLowerCase();
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    rows.sort((a, b) => direction * compare(key(a), key(b)));
    table.tBodies[0].append(...rows);
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.className = "atlas-sort";
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      sort(column, direction);
      const address = new URL(location);
      address.searchParams.set("sort", `${direction < 0 ? "-" : ""}${column}`);
      history.replaceState(history.state, "", address);
    });
  });
  const kept = chosen.get("sort");
  if (/^-?\d+$/.test(kept ?? "") && Math.abs(Number(kept)) < heads.length) {
    sort(Math.abs(Number(kept)), kept.startsWith("-") ? -1 : 1);
  }
}

/* --- attention: pointer, Tab and arrow keys choose the token that is looked from ------------------------------- */

function attention(figure) {
  const weights = JSON.parse(figure.querySelector("script").textContent);
  const tokens = [...figure.querySelectorAll(".atlas-token")];
  const reading = figure.querySelector(".atlas-reading");

  function look(query) {
    const row = weights[query];
    tokens.forEach((token, place) => {
      token.style.setProperty("--weight", row[place] ?? 0);
      token.classList.toggle("atlas-query", place === query);
      token.tabIndex = place === query ? 0 : -1;
    });
    const most = Object.entries(row).sort((a, b) => b[1] - a[1]).slice(0, 3);
    const name = (place) => `${tokens[place].textContent.trim() || "space"} (token ${place})`;
    reading.textContent = `From ${name(query)}: ` +
      (most.map(([place, weight]) => `${weight.toFixed(2)} to ${name(place)}`).join(", ") || "spread over many tokens");
  }

  tokens.forEach((token) => { token.tabIndex = token.classList.contains("atlas-query") ? 0 : -1; });
  const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -Infinity, End: Infinity };
  tokens.forEach((token, place) => {
    token.addEventListener("pointerenter", () => look(place));
    token.addEventListener("focus", () => look(place));
    token.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      tokens[Math.min(Math.max(place + steps[event.key], 0), tokens.length - 1)].focus();
    });
  });
}

document.querySelectorAll("[data-atlas-filters]").forEach(filters);
document.querySelectorAll("[data-atlas-attention]").forEach(attention);

// What the theme leaves undone for screen readers: a dialog without a name, parts of the menu with the same one.
document.querySelector(".md-search[role=dialog]")?.setAttribute("aria-label", "Search");
document.querySelectorAll(".md-nav .md-nav").forEach((part, place) => {
  part.setAttribute("aria-label", `${part.parentElement.innerText.trim().split("\n")[0]} (part ${place + 1})`);
  part.removeAttribute("aria-labelledby");
});
new MutationObserver(() => {
  document.querySelectorAll(".md-code__nav:not([aria-label])").forEach((part) => {
    part.setAttribute("aria-label", `Code block ${[...document.querySelectorAll(".md-code__nav")].indexOf(part) + 1}`);
  });
}).observe(document.body, { childList: true, subtree: true });

/* --- on a phone a row is a card, so that every cell must name its column ----------------------------------------- */

function cards(table) {
  const names = [...(table.tHead?.rows[0]?.cells ?? [])].map((head) => head.textContent.trim());
  if (names.length < 3 || table.tHead.rows.length > 1 || table.querySelector("tbody [colspan], tbody [rowspan]")) return;
  table.classList.add("atlas-rows");
  table.setAttribute("role", "table");
  for (const row of table.rows) {
    row.setAttribute("role", "row");
    [...row.cells].forEach((cell, place) => {
      const head = cell.tagName === "TH";
      cell.setAttribute("role", head ? (row.parentElement === table.tHead ? "columnheader" : "rowheader") : "cell");
      if (!head && place && cell.textContent.trim()) cell.dataset.column = names[place];
    });
  }
}

document.querySelectorAll(".atlas-wide:not(.atlas-matrix) > table").forEach(cards);

/* --- a bar at the head of every page: its address, BibTeX, JSON, and the version of the data ---------------------- */

function bibtex(title, version) {
  const key = "headatlas" + location.pathname.replace(/index\.html$/, "").replace(/[^a-z0-9]+/gi, "-").replace(/-$/, "");
  return `@misc{${key},\n  author = {{The headatlas authors}},\n  title = {${title}},\n  year = {${version.split(".")[0]}},\n` +
    `  note = {headatlas, data of version ${version}},\n  howpublished = {\\url{${location.origin}${location.pathname}}},\n}\n`;
}

function bar() {
  const title = document.querySelector("article h1");
  const version = window.headatlas?.version;
  if (!title || !version) return;
  const line = document.createElement("p");
  line.className = "atlas-bar";
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  const words = [...title.childNodes].filter((part) => !part.classList?.contains("headerlink"));
  const name = words.map((part) => part.textContent).join("").trim();
  for (const [label, text] of [["Copy link", () => location.href], ["Copy BibTeX", () => bibtex(name, version)]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text());
      said.textContent = "copied";
    });
    line.append(button);
  }
  const json = document.querySelector('.atlas-machine a[href$=".json"]');
  if (json) {
    const link = document.createElement("a");
    link.href = json.href;
    link.textContent = "JSON";
    line.append(link);
  }
  const data = document.createElement("span");
  data.textContent = `data ${version}`;
  line.append(data, said);
  title.after(line);
}

if (navigator.clipboard) bar();
