/* The box of the search, the index and the ranking; search.js loads this file when somebody searches. */
"use strict";
{
  const ROOT = new URL("..", document.currentScript.src || location.href);
  const FEW = 5; // results of a group, where the box does not say how many

  // What can be found, in the order of groups that score alike, and how much a match weighs.
  const GROUPS = {
    head: ["Heads", 1], type: ["Head types", 1.3], circuit: ["Circuits", 1.15], benchmark: ["Benchmarks", 1.1],
    method: ["Methods", 1.1], model: ["Models", 1.1], term: ["Glossary", 1], page: ["Pages", 0.9],
    paper: ["Papers", 0.8], finding: ["Findings", 0.3],
  };
  const STOP = new Set("a an and are at by for from head heads in is it like of on or the to with".split(" "));
  // Weight of the title and the other names, of the note, and of the text of an entry.
  const [NAME, NOTE, TEXT] = [8, 3, 1];

  /* --- words ------------------------------------------------------------------------------------------------- */

  const flat = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  const stem = (word) => (word.length > 3 && /[^su]s$/.test(word) ? word.slice(0, -1) : word);
  const split = (text) => (flat(text).match(/[a-z0-9]+/g) ?? []).map(stem);

  /** The words that say something; all of them, where none does. */
  function wordsOf(text) {
    const all = split(text);
    const telling = all.filter((word) => !STOP.has(word));
    return telling.length ? telling : all;
  }

  /** Letters changed, left out, added or swapped between two words; more than `most` is not counted out. */
  function distance(a, b, most) {
    if (Math.abs(a.length - b.length) > most) return most + 1;
    let [before, last] = [[], Array.from({ length: b.length + 1 }, (_, place) => place)];
    for (let i = 1; i <= a.length; i++) {
      const row = [i];
      for (let j = 1; j <= b.length; j++) {
        row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] !== b[j - 1]));
        if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j], before[j - 2] + 1);
      }
      [before, last] = [last, row];
    }
    return last[b.length];
  }

  /* --- the index --------------------------------------------------------------------------------------------- */

  /** The data of the index, with the words of every entry. */
  function prepare(data) {
    const entries = [];
    const places = new Map(); // word -> entry -> weight
    function add(group, title, address, note, names, text = "") {
      const entry = { group, title, address, note, names: [title, ...names].map((name) => wordsOf(name).join(" ")) };
      const weights = [[title, NAME], ...names.map((name) => [name, NAME]), [note, NOTE], [text, TEXT]];
      for (const [part, weight] of weights) {
        for (const word of split(part)) {
          if (!places.has(word)) places.set(word, new Map());
          places.get(word).set(entries.length, Math.max(weight, places.get(word).get(entries.length) ?? 0));
        }
      }
      entries.push(entry);
    }
    for (const [group, rows] of Object.entries(data.entries)) {
      for (const [title, address, note, other] of rows) {
        if (group === "page") add(group, title, address, note, [], other);
        else if (group === "paper") add(group, title, address, note, [other.split("; ")[0]], other);
        else add(group, title, address, note, other.split("; ").filter(Boolean));
      }
    }
    const { type, model, paper } = data.entries;
    for (const [number, id, statement, source] of data.findings) {
      add("finding", statement, `${type[number][1]}#${id}`, `${type[number][0]}, ${paper[source][0]}`, []);
    }
    return { entries, places, types: type.map(([name]) => name.replace(/ heads?$/i, "")), heads: data.heads,
      models: Object.fromEntries(model.map(([name, address, , other]) => [address.split("/")[1], { name, other }])) };
  }

  /** The words of the index that a word may mean, each with its likeness, 0 to 1. */
  function alike(index, word) {
    const found = new Map();
    if (index.places.has(word)) found.set(word, 1);
    if (word.length > 1) for (const each of index.places.keys()) {
      if (each !== word && each.startsWith(word)) found.set(each, 0.8);
    }
    if (!found.size && word.length > 3) {
      const most = word.length < 8 ? 1 : 2;
      for (const each of index.places.keys()) {
        const away = distance(word, each, most);
        if (away <= most) found.set(each, 0.7 - 0.2 * away);
      }
    }
    return found;
  }

  function matches(index, query) {
    const words = [...new Set(wordsOf(query))];
    const meant = []; // the words, without typing errors
    const found = new Map(); // entry -> [score, weight of the words that it has]
    let whole = 0;
    for (const word of words) {
      const candidates = alike(index, word);
      const typed = [...candidates].every(([, likeness]) => likeness < 0.8);
      meant.push(typed && candidates.size ? [...candidates].reduce((a, b) => (b[1] > a[1] ? b : a))[0] : word);
      const met = new Map();
      for (const [each, likeness] of candidates) {
        for (const [entry, weight] of index.places.get(each)) {
          met.set(entry, Math.max(met.get(entry) ?? 0, likeness * weight));
        }
      }
      const rarity = Math.log(1 + index.entries.length / (met.size + 0.5));
      whole += rarity;
      for (const [entry, weight] of met) {
        const [score, had] = found.get(entry) ?? [0, 0];
        found.set(entry, [score + rarity * weight, had + rarity]);
      }
    }
    const phrase = meant.join(" ");
    const rows = [...found].map(([number, [score, had]]) => {
      const entry = index.entries[number];
      const best = Math.max(...entry.names.map((name, place) =>
        name === phrase ? (place ? 60 : 70) : name.startsWith(phrase) ? 25 : ` ${name} `.includes(` ${phrase} `) ? 10 : 0));
      return { ...entry, had, score: (score + best) * GROUPS[entry.group][1] };
    });
    const full = rows.filter((row) => row.had > whole - 1e-6);
    return full.length ? full : rows.filter((row) => row.had >= whole / 2);
  }

  /* --- heads: a coordinate, and words of a model ------------------------------------------------------------- */

  const SPELLED = [/\b[la](\d{1,3})[.\s-]*h(\d{1,3})\b/i, /\blayer\s*(\d{1,3})\W*head\s*(\d{1,3})\b/i];
  const SHORT = /(?:^|[\s(])(\d{1,3})\s*[.,-]\s*(\d{1,3})(?=$|[\s)])/;

  function heads(index, query) {
    const spelled = SPELLED.map((form) => form.exec(query)).find(Boolean);
    const found = spelled ?? SHORT.exec(query);
    if (!found) return [];
    const head = `L${Number(found[1])}H${Number(found[2])}`;
    const words = wordsOf(query.replace(found[0], " "));
    const fits = ({ name, other }) => {
      const squeezed = flat(`${name} ${other}`).replace(/[^a-z0-9;]/g, "");
      return words.every((word) => squeezed.includes(word));
    };
    return Object.entries(index.heads).flatMap(([id, known]) => {
      if (!known[head] || !fits(index.models[id])) return [];
      const [reported, measured, findings, page] = known[head];
      const listed = (types) => types.map((type) => index.types[type].toLowerCase()).join(", ");
      const said = [];
      if (reported.length) said.push(`reported: ${listed(reported)}`);
      else if (findings) said.push("named in papers");
      if (measured.length) said.push(`measured: ${listed(measured)}`);
      const exact = words.join("") === flat(id).replace(/[^a-z0-9]/g, "") || words.length === 0;
      return [{ group: "head", title: `${head} of ${index.models[id].name}`, note: said.join(" · "),
        address: `models/${id}/${page ? `${head}/` : `#${head}`}`,
        score: (spelled || words.length === 0 ? 1000 : 20) + (exact ? 100 : 0) + findings + (reported.length ? 50 : 0) }];
    });
  }

  /** The groups of results, best first: [{group, name, results}]. */
  function rank(index, query) {
    const groups = new Map();
    for (const each of [...heads(index, query), ...matches(index, query)].sort((a, b) => b.score - a.score)) {
      if (!groups.has(each.group)) groups.set(each.group, []);
      groups.get(each.group).push(each);
    }
    return [...groups].map(([group, results]) => ({ group, name: GROUPS[group][0], results }));
  }

  /* --- the box: a combobox with a listbox -------------------------------------------------------------------- */

  let loading = null;
  const load = () => (loading ??= fetch(new URL("api/v1/search.json", ROOT)).then((answer) => answer.json()).then(prepare)
    .catch((error) => { loading = null; throw error; }));
  let boxes = 0;

  function made(tag, settings = {}, ...parts) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(settings)) element.setAttribute(name, value);
    element.append(...parts);
    return element;
  }

  function option(result, id) {
    return made("a", { role: "option", id, tabindex: "-1", "aria-selected": "false", "data-group": result.group,
      href: new URL(result.address, ROOT).href },
      made("b", {}, result.title), " ", made("span", {}, result.note));
  }

  /** A box in an element: `most` results of a group; whether the address `keeps` what is asked. */
  function box(place, most = FEW, keeps = false) {
    const name = `atlas-search-${++boxes}`;
    const input = made("input", { type: "search", role: "combobox", "aria-label": "Search", "aria-expanded": "false",
      "aria-controls": name, "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
      placeholder: "Search: L10H7, induction, a paper, a model" });
    const list = made("div", { role: "listbox", id: name, "aria-label": "Results", hidden: "" });
    const said = made("p", { role: "status", class: "atlas-search-said" });
    place.classList.add("atlas-search");
    place.append(input, list, said);
    let options = [];
    let active = -1;

    function choose(number) {
      options[active]?.setAttribute("aria-selected", "false");
      active = options.length ? (number + options.length) % options.length : -1;
      const chosen = options[active];
      if (!chosen) return input.removeAttribute("aria-activedescendant");
      chosen.setAttribute("aria-selected", "true");
      chosen.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", chosen.id);
    }

    function show(groups) {
      let number = 0;
      list.replaceChildren(...groups.map(({ group, name: title, results }) => {
        const label = `${name}-${group}`;
        const count = results.length > most ? `${title} (${most} of ${results.length})` : title;
        return made("div", { role: "group", "aria-labelledby": label }, made("div", { id: label, class: "atlas-search-group" }, count),
          ...results.slice(0, most).map((each) => option(each, `${name}-${number++}`)));
      }));
      options = [...list.querySelectorAll("[role=option]")];
      list.hidden = !options.length;
      input.setAttribute("aria-expanded", String(options.length > 0));
      choose(options.length ? 0 : -1);
    }

    async function search() {
      const asked = input.value.trim();
      if (keeps) {
        const address = new URL(location);
        if (asked) address.searchParams.set("q", asked); else address.searchParams.delete("q");
        history.replaceState(history.state, "", address);
      }
      if (!asked) { show([]); said.replaceChildren(); return; }
      const index = await load().catch(() => null);
      if (!index) { said.textContent = "The index could not be loaded."; return; }
      if (input.value.trim() !== asked) return;
      const groups = rank(index, asked);
      show(groups);
      const count = groups.reduce((sum, each) => sum + each.results.length, 0);
      const all = new URL(`search/?q=${encodeURIComponent(asked)}`, ROOT).href;
      said.replaceChildren(count ? `${count} result${count === 1 ? "" : "s"}. ` : "Nothing found. ",
        ...(count && most === FEW ? [made("a", { href: all }, "All of them")] : []));
    }

    const deeds = {
      ArrowDown: () => choose(active + 1), ArrowUp: () => choose(active - 1),
      Enter: () => options[active] && location.assign(options[active].href),
      Escape: () => {
        if (place.closest("dialog")) { place.closest("dialog").close(); return; }
        input.value = "";
        search();
      },
    };
    input.addEventListener("input", search);
    input.addEventListener("focus", () => load().catch(() => {}), { once: true });
    input.addEventListener("keydown", (event) => {
      if (!(event.key in deeds) || event.isComposing) return;
      event.preventDefault();
      deeds[event.key]();
    });
    return { input, search };
  }

  window.headatlasSearch = { prepare, rank, box };
}
