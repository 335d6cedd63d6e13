/* "Try it": a text, the attention of every head, and heads that are switched off. */

import { element, Grid, HeadPanel, NextPanel } from "./panels.js";
import { patternOf, recordedPattern } from "./pictures.js";
import { addressOf, headOf, readAddress } from "./state.js";

const LIVE = "specimen";
const FILES = new URL("./", location.href); // the folder of this page, with what the build wrote
const about = new Map(); // model -> what <model>.json says
const state = readAddress(location.href);
const headPanel = new HeadPanel(), nextPanel = new NextPanel();
let grid = null, shown = null; // what is on the page: {pieces, pattern: name -> pattern, ...}

/* --- the specimen, in a worker: one text at a time, the latest wins ------------------------------------------- */

let worker = null, busy = false, waiting = false;

function run() {
  if (busy) return void (waiting = true);
  if (!worker) {
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", received);
    worker.addEventListener("error", () => say("This browser cannot run the model here; a current one can."));
    element("try-load").parentElement.hidden = true;
    say("Loading the specimen …");
  }
  busy = true;
  const folder = new URL(`${LIVE}/`, FILES).href;
  worker.postMessage({ folder, text: state.text ?? "", off: state.off.map(headOf), how: state.how });
}

function received({ data }) {
  busy = false;
  if (waiting) {
    waiting = false;
    run();
  }
  if (modelOf() !== LIVE) return;
  if (data.error) return say(`${data.error}.`);
  const { pieces, leftOut, context, patterns, milliseconds } = data, tokens = pieces.length;
  say(`${tokens} tokens, ${Math.round(milliseconds)} ms.` + (leftOut
    ? ` The specimen reads at most ${context} tokens: the last ${leftOut} of this text are left out.` : ""));
  const pattern = (name) => {
    const [layer, head] = headOf(name);
    return patternOf(patterns[layer], head * tokens * tokens, tokens);
  };
  show({ ...data, pattern });
}

/* --- recorded texts of other models --------------------------------------------------------------------------- */

async function showRecorded() {
  const { id, texts, layers } = about.get(state.model), wanted = state.sample;
  const text = texts.find((each) => each.id === wanted) ?? texts[0];
  const answer = await fetch(new URL(`${id}/${text.id}.bin`, FILES));
  if (modelOf() !== id || state.sample !== wanted) return; // another one was chosen meanwhile
  if (!answer.ok) return say(`The patterns of this text could not be loaded (${answer.status}).`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const before = layers.map((_, layer) => sum(layers.slice(0, layer))); // heads in earlier layers
  element("try-sample").value = text.id;
  say(`${text.pieces.length} tokens, recorded: “${text.text}”`);
  const pattern = (name) => {
    const [layer, head] = headOf(name);
    return recordedPattern(bytes, before[layer] + head, text.pieces.length);
  };
  show({ pieces: text.pieces, pattern });
}

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/* --- the page ------------------------------------------------------------------------------------------------- */

const modelOf = () => state.model ?? LIVE;
const say = (text) => void (element("try-status").textContent = text);

function show(found) {
  shown = found;
  element("try-result").hidden = false;
  for (const id of ["try-next", "try-each", "try-key", "try-switch"]) element(id).hidden = !found.before;
  const { names } = about.get(modelOf());
  grid.show(found.pattern, state.head, state.off, names);
  showHead();
  if (found.before) nextPanel.show(found, state.off, state.how);
}

function showHead() {
  const { names, source } = about.get(modelOf()), off = state.off.includes(state.head);
  headPanel.show(state.head, shown.pattern(state.head), shown.pieces, names[state.head] ?? [], source);
  const button = element("try-switch");
  button.textContent = off ? "Switch this head on" : "Switch this head off";
  button.setAttribute("aria-pressed", off);
}

function keep() {
  history.replaceState(history.state, "", addressOf(state, location.href));
}

function choose(head) {
  state.head = head;
  keep();
  if (!shown) return;
  grid.show(shown.pattern, head, state.off, about.get(modelOf()).names);
  showHead();
}

function setOff(heads) {
  if (modelOf() !== LIVE) return;
  state.off = heads;
  keep();
  run();
}

const toggle = (head) =>
  setOff(state.off.includes(head) ? state.off.filter((each) => each !== head) : [...state.off, head]);

function setText(text) {
  state.text = text;
  element("try-text").value = text;
  keep();
  run();
}

/** Show another model: its heads, and its texts or the text box. */
async function useModel() {
  const id = modelOf(), live = id === LIVE;
  if (!about.has(id)) {
    const answer = await fetch(new URL(`${id}.json`, FILES));
    if (!answer.ok) return say(`${id}.json could not be loaded (${answer.status}).`);
    about.set(id, await answer.json());
  }
  if (modelOf() !== id) return; // another one was chosen meanwhile
  shown = null;
  const { layers, copying, texts, weights } = about.get(id);
  const exists = (name) => {
    const [layer, head] = headOf(name ?? "") ?? [layers.length];
    return layer < layers.length && head < layers[layer];
  };
  state.off = live ? state.off.filter(exists) : [];
  if (!exists(state.head)) state.head = copying[0] ?? Object.keys(about.get(id).names)[0] ?? "L0H0";
  grid = new Grid(layers, choose, toggle);
  element("try-result").hidden = true;
  element("try-live").hidden = !live;
  element("try-recorded").hidden = live;
  if (!live) {
    element("try-sample").replaceChildren(...texts.map((each) => new Option(each.name, each.id)));
    element("try-weights").textContent = `Weights: ${weights}.`;
    return showRecorded();
  }
  say("");
  element("try-text").value = state.text ?? "";
  if (worker || state.text !== null) run();
}

function listen() {
  const { examples, copying } = about.get(LIVE);
  element("try-examples").replaceChildren("Examples:", ...Object.entries(examples).map(([name, text]) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "try-button", textContent: name });
    button.addEventListener("click", () => setText(text));
    return button;
  }));
  const first = Object.values(examples)[0];
  element("try-load").addEventListener("click", () => setText(state.text || first));
  element("try-text").addEventListener("focus", () => worker || (state.text ? run() : setText(first)));
  element("try-text").addEventListener("input", ({ target }) => setText(target.value));
  element("try-switch").addEventListener("click", () => toggle(state.head));
  element("try-copying").textContent = `Switch off the ${copying.length} induction heads found`;
  element("try-copying").addEventListener("click", () => setOff([...copying]));
  element("try-on").addEventListener("click", () => setOff([]));
  element("try-how").value = state.how;
  element("try-how").addEventListener("change", ({ target }) => {
    state.how = target.value;
    setOff(state.off);
  });
  element("try-model").addEventListener("change", ({ target }) => {
    Object.assign(state, { model: target.value === LIVE ? null : target.value, head: null, sample: null });
    keep();
    useModel();
  });
  element("try-sample").addEventListener("change", ({ target }) => {
    state.sample = target.value;
    keep();
    showRecorded();
  });
  const again = () => shown && show(shown);
  addEventListener("resize", again);
  new MutationObserver(again).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
}

async function start() {
  element("try").hidden = false;
  const options = [...element("try-model").options].map((each) => each.value);
  const wanted = options.includes(state.model) && state.model !== LIVE ? state.model : null;
  state.model = null; // the specimen first: its examples and induction heads fill the page
  const answer = await fetch(new URL(`${LIVE}.json`, FILES));
  if (!answer.ok) return say(`${LIVE}.json could not be loaded (${answer.status}).`);
  about.set(LIVE, await answer.json());
  listen();
  state.model = wanted;
  element("try-model").value = modelOf();
  return useModel();
}

start();
