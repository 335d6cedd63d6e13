/* What is read from logits: the next token, the loss of each token, and whether repeated text is copied. */

import { softmax } from "./model.js";

const SHOWN = 10;

/**
 * @param {Float32Array} logits [position vocabulary]
 * @param {number[]} tokens the whole prompt
 * @returns {{top: Array<[number, number]>, loss: number[], right: boolean[]}} the ten likeliest next tokens with their
 *   probabilities; for each token but the first, its loss in nats, and whether it was the likeliest
 */
export function measure(logits, tokens) {
  const size = logits.length / tokens.length, loss = [], right = [];
  const at = (place) => softmax(logits.slice(place * size, (place + 1) * size));
  for (let place = 1; place < tokens.length; place++) {
    const chances = at(place - 1), mine = chances[tokens[place]];
    loss.push(-Math.log(Math.max(mine, Number.MIN_VALUE)));
    right.push(chances.every((chance) => chance <= mine));
  }
  const next = at(tokens.length - 1);
  const order = Array.from(next.keys()).sort((a, b) => next[b] - next[a]);
  return { top: order.slice(0, SHOWN).map((id) => [id, next[id]]), loss, right };
}

/**
 * Places of tokens that continue an earlier copy: the same two tokens stand in a row before, after the first `skip`.
 * @returns {number[]}
 */
export function copies(tokens, skip) {
  const seen = new Set(), found = [];
  for (let place = skip + 1; place < tokens.length; place++) {
    const pair = `${tokens[place - 1]} ${tokens[place]}`;
    if (seen.has(pair)) found.push(place);
    seen.add(pair);
  }
  return found;
}
