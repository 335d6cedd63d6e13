/* The parts of the page: all heads, one head, the next token. Each is a class that shows what it is given. */

import { draw, thumbnail, visible } from "./pictures.js";
import { nameOf } from "./state.js";

export const element = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** A button with a small picture for each head, a row per layer. */
export class Grid {
  constructor(layers, onChoose, onSwitch) {
    this.buttons = new Map();
    const grid = element("try-grid");
    grid.style.setProperty("--heads", Math.max(...layers));
    grid.replaceChildren(...layers.flatMap((count, layer) => [
      make("span", { className: "try-layer", textContent: `L${layer}` }),
      ...Array.from({ length: count }, (_, head) => {
        const name = nameOf([layer, head]);
        const button = make("button", { type: "button", className: "try-cell", tabIndex: -1 }, make("canvas"));
        button.addEventListener("click", () => onChoose(name));
        button.addEventListener("keydown", (event) => {
          if (event.key === "x") onSwitch(name);
          if (!(event.key in STEPS)) return;
          event.preventDefault();
          const [down, along] = STEPS[event.key], to = this.buttons.get(nameOf([layer + down, head + along]));
          to?.focus();
          to?.click();
        });
        this.buttons.set(name, button);
        return button;
      }),
    ]));
    grid.dataset.many = layers.length > 8;
  }

  show(patternOf, chosen, off, names) {
    for (const [name, button] of this.buttons) {
      thumbnail(button.firstChild, patternOf(name));
      const first = names[name]?.[0], more = names[name]?.length > 1 ? ` and ${names[name].length - 1} more` : "";
      button.title = `${name}: ${first ? `${first.name}${more}` : "no name"}${off.includes(name) ? " (off)" : ""}`;
      button.setAttribute("aria-label", button.title);
      button.setAttribute("aria-pressed", name === chosen);
      button.classList.toggle("try-off", off.includes(name));
      button.tabIndex = name === chosen ? 0 : -1;
    }
  }
}

/** The pattern of one head, its names, and the token that looks. */
export class HeadPanel {
  constructor() {
    const canvas = element("try-picture");
    const point = (event) => {
      const at = this.under?.(event);
      if (at) this.look(...at);
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
  }

  show(name, pattern, pieces, names, source) {
    if (this.pieces?.join("\n") !== pieces.join("\n")) this.query = pieces.length - 1; // another text: from its end
    Object.assign(this, { name, pattern, pieces });
    element("try-name").textContent = name;
    this.showNames(names, source);
    this.tokens = pieces.map((piece, place) => {
      const token = make("button", { type: "button", className: "atlas-token", textContent: visible(piece) });
      token.addEventListener("pointerenter", () => this.look(place));
      token.addEventListener("focus", () => this.look(place));
      token.addEventListener("keydown", (event) => {
        const step = STEPS[event.key];
        if (!step) return;
        event.preventDefault();
        this.tokens[place + step[0] + step[1]]?.focus();
      });
      return token;
    });
    element("try-tokens").replaceChildren(...this.tokens);
    this.look(this.query);
  }

  showNames(names, source) {
    const links = names.map(({ type, name, stage }) =>
      make("a", { href: `../heads/${type}/`, className: `atlas-chip atlas-${stage}`, textContent: name }));
    element("try-names").replaceChildren(...(links.length ? links : [`This head has no name in ${source}.`]));
    const measured = element("try-measured");
    measured.replaceChildren(...names.map(({ name, said }) => make("li", { textContent: `${name}: ${said}` })));
    measured.parentElement.hidden = !names.length;
  }

  /** Mark the token that looks, shade the others by its attention, and say where it goes. */
  look(query, key = null) {
    this.query = query;
    const row = this.pieces.map((_, place) => (place > query ? 0 : this.pattern.at(query, place)));
    this.tokens.forEach((token, place) => {
      token.style.setProperty("--weight", row[place]);
      token.classList.toggle("atlas-query", place === query);
      token.tabIndex = place === query ? 0 : -1;
    });
    const named = (place) => `${visible(this.pieces[place])} (${place})`;
    const order = [...row.keys()].sort((a, b) => row[b] - row[a]).filter((place) => row[place] >= 0.005);
    const told = key === null ? order.slice(0, 3) : [key];
    element("try-reading").textContent = `From ${named(query)}: ` +
      (told.map((place) => `${row[place].toFixed(2)} to ${named(place)}`).join(", ") || "spread over many tokens");
    const canvas = element("try-picture");
    canvas.setAttribute("aria-label", `attention pattern of ${this.name}; the tokens above say its numbers`);
    this.under = draw(canvas, this.pattern, this.pieces, query);
  }
}

/** The likeliest next tokens and the loss of each token, as it is and with heads off. */
export class NextPanel {
  show({ pieces, before, after, copied }, off, how) {
    element("try-off").textContent = off.length
      ? `Off (${how === "mean" ? "each gives its mean" : "each gives zero"}): ${off.join(", ")}`
      : "No head is off.";
    element("try-on").disabled = !off.length;
    element("try-before").replaceChildren(...likeliest(before.top));
    element("try-edited").hidden = !after;
    element("try-changed").replaceChildren(...(after ? likeliest(after.top) : []));
    element("try-copied").textContent = told(copied, before, after);
    element("try-losses").replaceChildren(...pieces.slice(1).map((piece, place) => {
      const losses = [before, ...(after ? [after] : [])].map((each) => each.loss[place]);
      const bars = losses.map((loss, number) => {
        const bar = make("span", { className: number ? "try-bar-after" : "try-bar-before" });
        bar.style.height = `${Math.min(100, 10 * loss)}%`;
        return bar;
      });
      const said = losses.map((loss) => loss.toFixed(2)).join(", with heads off ");
      const made = make("span", { className: "try-loss", title: `${visible(piece)}: loss ${said}` },
        make("span", { className: "try-piece", textContent: visible(piece) }),
        make("span", { className: "try-bars" }, ...bars));
      made.setAttribute("role", "listitem");
      made.setAttribute("aria-label", made.title);
      return made;
    }));
  }
}

function likeliest(top) {
  return top.map(([piece, chance]) => {
    const made = make("li", {},
      make("code", { textContent: visible(piece) }), make("span", { textContent: percent(chance) }));
    made.style.setProperty("--chance", chance);
    return made;
  });
}

function percent(chance) {
  return chance >= 0.0005 ? `${(100 * chance).toFixed(1)}%` : "<0.1%";
}

/** How well the tokens of the text are predicted, and among them those that continue an earlier copy. */
function told(copied, before, after) {
  const mean = ({ loss }) => (loss.reduce((a, b) => a + b, 0) / loss.length).toFixed(2);
  if (!before.loss.length) return "";
  const whole = `Mean loss ${mean(before)}${after ? `, with heads off ${mean(after)}` : ""}.`;
  if (!copied.length) return `${whole} No pair of tokens occurs twice in this text.`;
  const count = ({ right }) => copied.filter((place) => right[place - 1]).length;
  return `${whole} ${copied.length} tokens continue an earlier copy: the likeliest token is the right one at ` +
    `${count(before)} of these${after ? `, with heads off at ${count(after)}` : ""}.`;
}
