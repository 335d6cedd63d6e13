/* The explorer of findings: facets whose counts react, the state in the address. */
"use strict";
{
  const copy = window.headatlasCopy;
  const FEW = 40; // cards until more are asked for
  const WORDS = ["stance", "kind", "checked"]; // facets whose values the data lists strongest first

  /** The findings as objects, with the value of each facet. */
  function read(data) {
    return data.findings.map((cells, place) => {
      const row = Object.fromEntries(data.columns.map((name, column) => [name, cells[column]]));
      const [type, name, stage] = data.types[row.type];
      const [model, called] = row.model === null ? ["", ""] : data.models[row.model];
      const [paper, short, year] = data.papers[row.paper];
      const heads = row.heads ? row.heads.split(" ") : [];
      const text = [row.statement, type, name, model, called, row.heads, row.metric, paper, short, row.id].join(" ");
      const strength = WORDS.reduce((sum, name) => sum * data[name].length + row[name], 0);
      for (const name of WORDS) row[name] = data[name][row[name]];
      return Object.assign(row, { place, strength, type, name, stage, model, called, paper, short, year, heads,
        text: text.toLowerCase(), anchor: `${type}/${row.id}` });
    });
  }

  /** Whether a finding has every word; a head such as L1H1 is not found in L1H10. */
  function says(row, words) {
    return words.every((word) => /^l\d+h\d+$/.test(word)
      ? new RegExp(`\\b${word}\\b`).test(row.text) : row.text.includes(word));
  }

  /** The findings that fit what is chosen; one facet can be left out, to count what its values would give. */
  function fitting(rows, chosen, words, leftOut) {
    const asked = Object.entries(chosen).filter(([facet, values]) => values.size && facet !== leftOut);
    return rows.filter((row) => asked.every(([facet, values]) => values.has(String(row[facet]))) && says(row, words));
  }

  /** How many of the findings have each value of a facet. */
  function counted(rows, facet) {
    const counts = new Map();
    for (const row of rows) if (row[facet] !== "") counts.set(String(row[facet]), (counts.get(String(row[facet])) ?? 0) + 1);
    return counts;
  }

  const ORDERS = {
    "": (a, b) => a.place - b.place,
    strength: (a, b) => a.strength - b.strength || a.place - b.place,
    year: (a, b) => b.year - a.year || a.place - b.place,
  };

  function made(tag, settings = {}, ...parts) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(settings)) element.setAttribute(name, value);
    element.append(...parts);
    return element;
  }

  function card(row, root) {
    const link = `${root}heads/${row.type}/#${row.id}`;
    const item = made("article", { class: "atlas-finding", id: row.anchor },
      made("p", { class: "atlas-said" },
        made("span", { class: `atlas-${row.stance}` }, row.statement), " ",
        made("a", { class: "atlas-permalink", href: `#${row.anchor}`, "aria-label": `Link to this finding: ${row.id}` }, "#")));
    if (row.metric || row.n) {
      const sample = row.n ? (row.metric ? ` (n = ${row.n})` : `n = ${row.n}`) : "";
      item.append(made("p", { class: "atlas-value" },
        ...(row.figure ? [made("strong", {}, row.figure), " "] : []), (row.metric ?? "") + sample));
    }
    if (row.formula) item.append(made("p", { class: "atlas-formula" }, row.formula));
    if (row.model) {
      const few = row.heads.slice(0, 8).map((head) => head.replace("=", " ").replaceAll("_", " ")).join(", ");
      const where = made("div", { class: "atlas-where" }, made("a", { href: `${root}models/${row.model}/` }, row.called));
      if (few) where.append(": ", made("code", {}, few));
      if (row.heads.length > 8) where.append(" and ", made("a", { href: link }, `${row.heads.length - 8} more`));
      item.append(where);
    }
    item.append(made("p", { class: "atlas-place" },
      made("a", { href: link }, row.name), ` · ${row.kind} · `,
      made("a", { href: `${root}papers/${row.paper}/` }, row.short), `, ${row.at} · checked: ${row.checked} · `,
      made("a", { href: `${root}api/v1/papers/${row.paper}.bib`, "data-atlas-copy": "" }, "BibTeX")));
    return item;
  }

  function explorer(box, rows, data) {
    const root = box.dataset.atlasFindings;
    const [form, list] = [box.querySelector("form"), box.querySelector(".atlas-cards")];
    const [said, more, sort] = ["output", "[data-do=more]", "[name=sort]"].map((each) => box.querySelector(each));
    const names = {
      type: Object.fromEntries(data.types), stage: data.stages, model: Object.fromEntries(data.models),
      paper: Object.fromEntries(data.papers),
    };
    const facets = [...box.querySelectorAll("[data-facet]")];
    const chosen = Object.fromEntries(facets.map((each) => [each.dataset.facet, new Set()]));
    let shown = [];
    let most = FEW;

    function build(facet) {
      const name = facet.dataset.facet;
      const order = name === "year" ? (a, b) => b[0] - a[0] : (a, b) => b[1] - a[1];
      for (const [value] of [...counted(rows, name)].sort(order)) {
        const tick = made("input", { type: "checkbox", name, value });
        facet.querySelector(".atlas-options").append(
          made("label", {}, tick, " ", made("span", {}, names[name]?.[value] ?? value), " ", made("b", {})));
      }
    }

    function fromAddress() {
      const asked = new URLSearchParams(location.search);
      form.elements.q.value = asked.get("q") ?? "";
      sort.value = asked.get("sort") in ORDERS ? asked.get("sort") : "";
      for (const facet of facets) {
        const values = new Set(asked.getAll(facet.dataset.facet));
        for (const tick of facet.querySelectorAll("input")) tick.checked = values.has(tick.value);
        if (values.size) facet.open = true;
      }
    }

    function toAddress() {
      const address = new URL(location);
      address.search = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
      if (sort.value) address.searchParams.set("sort", sort.value);
      address.hash = "";
      history.replaceState(history.state, "", address.href.replace(/#$/, ""));
    }

    function update() {
      for (const facet of facets) {
        chosen[facet.dataset.facet] = new Set([...facet.querySelectorAll(":checked")].map((tick) => tick.value));
      }
      const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
      shown = fitting(rows, chosen, words).sort(ORDERS[sort.value]);
      for (const facet of facets) {
        const counts = counted(fitting(rows, chosen, words, facet.dataset.facet), facet.dataset.facet);
        for (const label of facet.querySelectorAll("label")) {
          const tick = label.querySelector("input");
          label.querySelector("b").textContent = counts.get(tick.value) ?? 0;
          label.hidden = !counts.has(tick.value) && !tick.checked;
        }
      }
      said.textContent = `${shown.length} of ${rows.length}`;
      tags();
      draw();
    }

    function tags() {
      const ticks = [...form.querySelectorAll(":checked")];
      box.querySelector(".atlas-chosen").replaceChildren(...ticks.map((tick) => {
        const name = tick.parentElement.querySelector("span").textContent;
        const button = made("button", { type: "button", "aria-label": `remove the filter ${name}` }, `${name} ×`);
        button.addEventListener("click", () => { tick.checked = false; changed(); });
        return button;
      }));
    }

    function draw() {
      list.replaceChildren(...shown.slice(0, most).map((row) => card(row, root)));
      const left = shown.length - most;
      more.hidden = left <= 0;
      more.textContent = `Show all ${shown.length}`;
    }

    /** Show the finding that the address names, whatever is chosen. */
    function arrive() {
      const wanted = decodeURIComponent(location.hash.slice(1));
      const row = rows.find((each) => each.anchor === wanted);
      if (!row) return;
      if (!shown.includes(row)) shown = [row, ...shown];
      most = Math.max(most, shown.indexOf(row) + 1);
      draw();
      document.getElementById(wanted).classList.add("atlas-here");
      document.getElementById(wanted).scrollIntoView();
    }

    function changed() { most = FEW; toAddress(); update(); }

    async function csv() {
      const text = await (await fetch(`${root}findings.csv`)).text();
      const [header, ...lines] = text.match(/(?:[^"\r\n]|"(?:[^"]|"")*")+/g);
      return [header, ...shown.map((row) => lines[row.place]), ""].join("\r\n");
    }

    async function bibtex() {
      const keys = [...new Set(shown.map((row) => row.paper))].sort();
      const files = keys.map(async (key) => (await (await fetch(`${root}api/v1/papers/${key}.bib`)).text()).trim());
      return `${(await Promise.all(files)).join("\n\n")}\n`;
    }

    const deeds = {
      cite: async (button) => copy(await bibtex(), button),
      csv: async () => {
        const address = URL.createObjectURL(new Blob([await csv()], { type: "text/csv" }));
        made("a", { href: address, download: "findings.csv" }).click();
        URL.revokeObjectURL(address);
      },
      more: () => { most = Infinity; draw(); },
    };
    box.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button) deeds[button.dataset.do](button);
    });
    form.addEventListener("input", changed);
    sort.addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("hashchange", arrive);
    if (matchMedia("(min-width: 60em)").matches) {
      for (const facet of facets) facet.open = ["stage", "stance", "kind"].includes(facet.dataset.facet);
    }
    facets.forEach(build);
    fromAddress();
    update();
    box.hidden = false;
    arrive();
  }

  for (const box of document.querySelectorAll("[data-atlas-findings]")) {
    fetch(`${box.dataset.atlasFindings}api/v1/findings.json`)
      .then((answer) => answer.json()).then((data) => explorer(box, read(data), data));
  }
}
