/* Runs the model apart from the page, so that typing never waits for it. */

import { measure, copies } from "./measures.js";
import { Model } from "./model.js";
import { readSafetensors } from "./safetensors.js";
import { Tokenizer } from "./tokenizer.js";

let loaded = null; // a promise of {model, tokenizer, means}
let last = null; // the run of the last text with all heads on

async function load(folder) {
  const get = async (name) => {
    const answer = await fetch(new URL(name, folder));
    if (!answer.ok) throw new Error(`${name} could not be loaded (${answer.status})`);
    return answer;
  };
  const [config, file, weights, means] = await Promise.all([
    get("config.json").then((each) => each.json()),
    get("tokenizer.json").then((each) => each.json()),
    get("model.safetensors").then((each) => each.arrayBuffer()),
    get("means.bin").then((each) => each.arrayBuffer()),
  ]);
  const model = new Model(config, readSafetensors(weights));
  return { model, tokenizer: new Tokenizer(file), means: new Float32Array(means) };
}

/** Run a text twice: as it is, and with heads off where there are any. */
async function run({ text, off, how }) {
  const { model, tokenizer, means } = await loaded, started = performance.now();
  const all = [model.bos, ...tokenizer.encode(text)], tokens = all.slice(0, model.context);
  const key = tokens.join();
  if (last?.key !== key) {
    const ran = model.run(tokens);
    last = { key, ran, measured: measure(ran.logits, tokens) };
  }
  let { patterns } = last.ran, edited = null;
  if (off.length) {
    const again = model.run(tokens, off, how === "mean" ? means : null, last.ran);
    patterns = again.patterns;
    edited = measure(again.logits, tokens);
  }
  const told = (each) => each && { ...each, top: each.top.map(([id, chance]) => [tokenizer.piece(id), chance]) };
  return {
    pieces: tokens.map((id) => tokenizer.piece(id)),
    leftOut: all.length - tokens.length,
    context: model.context,
    copied: copies(tokens, 1),
    patterns, before: told(last.measured), after: told(edited), milliseconds: performance.now() - started,
  };
}

onmessage = async ({ data: { folder, ...asked } }) => {
  try {
    loaded ??= load(folder);
    postMessage(await run(asked));
  } catch (error) {
    if (error instanceof RangeError) return postMessage({ error: error.message }); // a text that cannot be read
    loaded = null; // the next text loads the files again
    postMessage({ error: `The specimen could not be loaded (${error.message}); change the text to try again` });
  }
};
