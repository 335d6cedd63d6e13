/* Byte-level byte-pair encoding, read from a tokenizer.json of Hugging Face: as GPT-2 does it. */

// Words as GPT-2 cuts them. White_Space, since \s of JavaScript is not that of Unicode.
const SPACE = String.raw`\p{White_Space}`;
const WORDS = new RegExp(
  String.raw`'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^${SPACE}\p{L}\p{N}]+|${SPACE}+(?!\P{White_Space})|${SPACE}+`,
  "gu",
);

/** GPT-2's printable sign of each of the 256 bytes. */
function signs() {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

export class Tokenizer {
  /** @param {object} file the content of tokenizer.json, with ByteLevel pre-tokenizer and BPE model */
  constructor(file) {
    if (file.model.type !== "BPE" || file.pre_tokenizer.type !== "ByteLevel" || file.normalizer) {
      throw new Error("this tokenizer is not byte-level BPE");
    }
    this.signs = signs();
    this.byteOf = new Map(this.signs.map((sign, byte) => [sign, byte]));
    this.ids = new Map(Object.entries(file.model.vocab));
    this.names = [];
    for (const [name, id] of this.ids) this.names[id] = name;
    this.ranks = new Map(file.model.merges.map((pair, rank) => [pair.join(" "), rank]));
    this.special = file.added_tokens.map((each) => each.content);
  }

  /** Token ids of a text, without BOS. @throws if the text holds a special token, as `Vocabulary.encode` does */
  encode(text) {
    const special = this.special.find((each) => text.includes(each));
    if (special) throw new RangeError(`${special} is a special token; take it out of the text`);
    const bytes = new TextEncoder();
    return (text.match(WORDS) ?? []).flatMap((word) => {
      const parts = Array.from(bytes.encode(word), (byte) => this.signs[byte]);
      return this.merged(parts).map((part) => this.ids.get(part));
    });
  }

  /** The parts of one word, joined pair by pair, the earliest learned merge first. */
  merged(parts) {
    while (parts.length > 1) {
      let best = Infinity, at = -1;
      for (let place = 0; place + 1 < parts.length; place++) {
        const rank = this.ranks.get(`${parts[place]} ${parts[place + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, place];
      }
      if (at < 0) break;
      parts = [...parts.slice(0, at), parts[at] + parts[at + 1], ...parts.slice(at + 2)];
    }
    return parts;
  }

  /** One token as text. A token that is only a part of a character is shown as its bytes: \xE2\x82. */
  piece(id) {
    const name = this.names[id];
    if (this.special.includes(name)) return name;
    const bytes = Uint8Array.from(name, (sign) => this.byteOf.get(sign));
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return Array.from(bytes, (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
    }
  }
}
