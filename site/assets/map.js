/* The map of a model where scripts run: choose names, keep the choice in the address, move with the arrow keys. */
"use strict";

function map(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  for (const [head, names] of Object.entries(data.heads)) { // as _data in tools/pages/map_view.py writes them
    data.heads[head] = names.map((name) => {
      const [type, findings, sources, measured] = typeof name === "number" ? [name, [], 0, 1] : name;
      const [id, title, stage] = data.types[type];
      return { id, title, stage, findings, sources, measured: measured === 1 };
    });
  }
  const form = section.querySelector("form"), box = section.querySelector(".atlas-map-box");
  const said = section.querySelector(".atlas-map-said"), output = form.querySelector("output");
  const body = box.querySelector("tbody"), squares = [...body.querySelectorAll("a")];
  const fields = [...form.elements].filter((field) => field.name);

  /* --- choosing ------------------------------------------------------------------------------------------------ */

  function fits({ id, stage, findings, sources, measured }, chosen) {
    const papers = sources > 0;
    if ((chosen.type && chosen.type !== id) || (chosen.stage && chosen.stage !== stage)) return false;
    if (chosen.kind || chosen.stance) {
      const found = findings.map((each) => each.split(" "));
      const fit = ([kind, stance]) => [kind, ""].includes(chosen.kind) && [stance, ""].includes(chosen.stance);
      if (!found.some(fit)) return false;
    }
    return { both: papers && measured, papers: papers && !measured, ours: measured && !papers }[chosen.who] ?? true;
  }

  function stripe(holder, stages) {
    if (!holder) return;
    for (const part of holder.children) part.hidden = !stages.has(part.className.replace("atlas-", ""));
    holder.hidden = [...holder.children].every((part) => part.hidden);
  }

  function write(square, names) {
    square.querySelectorAll("span, em").forEach((old) => old.remove());
    const add = (tag, text) => square.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
    for (const { id, sources } of names.slice(0, 2)) add("span", id).className = sources ? "" : "ours";
    if (names.length > 2) add("em", `+${names.length - 2}`);
  }

  function draw(square, chosen, any) {
    const names = data.heads[square.id], shown = names.map((name) => !any || fits(name, chosen));
    const papersOnly = Boolean(chosen.kind || chosen.stance);
    const stages = (whose) => new Set(names.filter((name, n) => shown[n] && whose(name)).map((name) => name.stage));
    stripe(square.querySelector(".atlas-map-papers"), stages((name) => name.sources > 0));
    stripe(square.querySelector("b"), stages((name) => name.measured && !papersOnly));
    const fit = any ? shown.includes(true) : true;
    square.classList.toggle("atlas-map-off", !fit);
    const against = names.some(({ findings }, n) => shown[n] && findings.some((each) => each.endsWith("contradicts")));
    square.classList.toggle("atlas-map-dashed", against);
    if (section.classList.contains("atlas-map-names") && names.length) write(square, names.filter((_, n) => shown[n]));
    return fit;
  }

  function apply() {
    const chosen = Object.fromEntries(new FormData(form)), any = Object.values(chosen).some(Boolean);
    const count = squares.filter((square) => draw(square, chosen, any)).length;
    output.textContent = `${count} of ${section.dataset.total} heads`;
  }

  function read() {
    const kept = new URLSearchParams(location.search);
    for (const field of fields) {
      const wanted = kept.get(field.name) ?? "";
      field.value = [...field.options].some((option) => option.value === wanted) ? wanted : "";
    }
    apply();
  }

  function keep() {
    const address = new URL(location);
    for (const field of fields) {
      if (field.value) address.searchParams.set(field.name, field.value); else address.searchParams.delete(field.name);
    }
    if (address.href !== location.href) history.pushState(null, "", address);
  }

  form.addEventListener("input", () => { apply(); keep(); });
  form.addEventListener("reset", () => setTimeout(() => { apply(); keep(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("popstate", read);

  /* --- one head: pointer and arrow keys ------------------------------------------------------------------------ */

  const nameOf = (cell) => `L${cell.parentElement.rowIndex - 1}H${cell.cellIndex - 1}`;

  function tell(cell) {
    const head = nameOf(cell), names = data.heads[head], line = document.createElement("p");
    const strong = document.createElement("strong");
    strong.textContent = head;
    line.append(strong);
    if (!names) line.append(": nobody has named this head");
    else {
      const list = names.map(({ title, sources, measured }) => {
        const who = [sources ? `${sources} source${sources > 1 ? "s" : ""}` : "", measured ? "measured here" : ""];
        return `${title} (${who.filter(Boolean).join(", ")})`;
      });
      line.append(`: ${[...list, ...(data.parts[head] ?? []).map((part) => `part of a circuit: ${part}`)].join(" · ")}`);
    }
    said.replaceChildren(line);
    said.hidden = false;
  }

  const cells = [...body.rows].map((row) => [...row.cells].filter((cell) => cell.matches("td:not([colspan])")));
  const target = (cell) => cell.querySelector("a") ?? cell;
  let stop = null;

  function reach(cell) { // one square of the grid takes part in the order of Tab
    if (stop) target(stop).tabIndex = -1;
    stop = cell;
    target(cell).tabIndex = 0;
  }

  const named = squares.map((square) => square.closest("td"));
  squares.forEach((square) => { square.tabIndex = -1; });
  reach(named[0]);

  body.addEventListener("pointerover", (event) => {
    const cell = event.target.closest("td:not([colspan])");
    if (cell) tell(cell);
  });
  body.addEventListener("focusin", (event) => {
    const cell = event.target.closest("td");
    reach(cell);
    tell(cell);
    const address = new URL(location);
    address.hash = cell.querySelector("a")?.id ?? "";
    history.replaceState(history.state, "", address);
  });
  body.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const move = { ...moves, Home: [0, -Infinity], End: [0, Infinity] }[event.key];
    const cell = event.target.closest("td");
    if (!move || !cell || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const rows = cells.filter((row) => row.length), row = rows.findIndex((each) => each.includes(cell));
    const next = rows[row + move[0]];
    if (!next) return;
    const wanted = rows[row].indexOf(cell) + move[1];
    const place = next[Math.min(Math.max(wanted, 0), next.length - 1)];
    if (!place.querySelector("a")) place.setAttribute("aria-label", `${nameOf(place)}: nobody has named this head`);
    reach(place);
    target(place).focus();
  });

  function arrive() {
    const square = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!squares.includes(square)) return;
    square.focus();
    square.scrollIntoView({ block: "center", inline: "center" });
  }
  addEventListener("hashchange", arrive);

  /* --- a map wider than its box says so ------------------------------------------------------------------------ */

  const more = section.querySelector(".atlas-map-more");
  function measure() {
    more.hidden = box.scrollWidth <= box.clientWidth + 1;
    box.classList.toggle("atlas-map-cut", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  }
  box.addEventListener("scroll", measure);
  new ResizeObserver(measure).observe(box);

  section.querySelector(".atlas-map-keys").hidden = false;
  form.hidden = false;
  read();
  arrive();
}

document.querySelectorAll("[data-atlas-map]").forEach(map);
