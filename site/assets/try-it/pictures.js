/* Attention patterns as pictures: a row for each token that looks, a column for each token looked at. */

const [LETTER, LABEL, LEAST] = [11, 12, 8]; // pixels of a letter; characters of a label; pixels of a labelled cell

/** A pattern of `length` tokens. `at(query, key)` is a weight from 0 to 1. */
export function patternOf(weights, offset, length) {
  return { length, at: (query, key) => weights[offset + query * length + key] };
}

/** A pattern of which only the lower triangle is kept, in bytes. */
export function recordedPattern(bytes, number, length) {
  const offset = (number * length * (length + 1)) / 2;
  return { length, at: (query, key) => (key > query ? 0 : bytes[offset + (query * (query + 1)) / 2 + key] / 255) };
}

const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();

function pixels(pattern) {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = colour("--atlas-score");
  probe.fillRect(0, 0, 1, 1);
  const [red, green, blue] = probe.getImageData(0, 0, 1, 1).data, { length } = pattern;
  const image = new ImageData(length, length);
  for (let query = 0; query < length; query++) {
    for (let key = 0; key <= query; key++) {
      image.data.set([red, green, blue, Math.round(255 * pattern.at(query, key))], 4 * (query * length + key));
    }
  }
  return image;
}

/** A small picture: a pixel for each pair of tokens; the style sheet says how large it is shown. */
export function thumbnail(canvas, pattern) {
  canvas.width = canvas.height = pattern.length;
  canvas.getContext("2d").putImageData(pixels(pattern), 0, 0);
}

/**
 * The large picture, with tokens beside rows and above columns where there is room, and the row of one token marked.
 * @returns {(event: PointerEvent) => ?[number, number]} which query and key lie under a pointer
 */
export function draw(canvas, pattern, pieces, query) {
  const { length } = pattern, across = canvas.parentElement.clientWidth, ratio = devicePixelRatio || 1;
  const shown = pieces.map((piece) => shortened(visible(piece)));
  const wanted = 10 + 0.62 * LETTER * Math.max(...shown.map((each) => each.length));
  const margin = (across - wanted) / length >= LEAST ? wanted : 2;
  const cell = Math.min(34, (across - margin) / length), side = cell * length;
  canvas.width = canvas.height = Math.round((margin + side) * ratio);
  canvas.style.width = canvas.style.height = `${margin + side}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = colour("--atlas-cell");
  for (let row = 0; row < length; row++) pen.fillRect(margin, margin + row * cell, (row + 1) * cell, cell);
  const small = document.createElement("canvas");
  thumbnail(small, pattern);
  pen.drawImage(small, margin, margin, side, side);
  pen.strokeStyle = colour("--atlas-found");
  pen.lineWidth = 1.5;
  pen.strokeRect(margin, margin + query * cell, (query + 1) * cell, cell);
  if (margin === wanted) labels(pen, shown, margin, cell, query);
  return ({ offsetX, offsetY }) => {
    const [key, row] = [offsetX, offsetY].map((each) => Math.floor((each - margin) / cell));
    return row >= 0 && row < length && key >= 0 && key <= row ? [row, key] : null;
  };
}

const shortened = (text) => (text.length > LABEL ? `${text.slice(0, LABEL - 1)}…` : text);

function labels(pen, shown, margin, cell, query) {
  pen.font = `${Math.min(LETTER, cell)}px monospace`;
  pen.textBaseline = "middle";
  shown.forEach((text, place) => {
    const middle = margin + (place + 0.5) * cell;
    pen.fillStyle = colour(place === query ? "--atlas-found" : "--md-default-fg-color");
    pen.textAlign = "right";
    pen.fillText(text, margin - 4, middle);
    pen.save();
    pen.translate(middle, margin - 4);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "left";
    pen.fillText(text, 0, 0);
    pen.restore();
  });
}

/** A token as it can be seen: spaces at its ends as ␣, a line break as ⏎, a tab as ⇥. */
export function visible(piece) {
  const signs = { " ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍" };
  return piece.replace(/^ +| +$|[\n\t\r]/g, (found) => Array.from(found, (sign) => signs[sign]).join(""));
}
