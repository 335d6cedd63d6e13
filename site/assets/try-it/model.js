/* GPT-2 in plain JavaScript: one text at a time, with every attention pattern, and heads that can be switched off. */

export class Model {
  /**
   * @param {object} config the content of config.json
   * @param {Map<string, Float32Array>} tensors its weights
   */
  constructor(config, tensors) {
    if (config.model_type !== "gpt2" || config.activation_function !== "gelu_pytorch_tanh") {
      throw new Error("this page runs models of GPT-2's architecture only");
    }
    this.layers = config.n_layer;
    this.heads = config.n_head;
    this.width = config.n_embd;
    this.headWidth = config.n_embd / config.n_head;
    this.context = config.n_positions;
    this.vocabulary = config.vocab_size;
    this.bos = config.bos_token_id;
    this.epsilon = config.layer_norm_epsilon;
    this.weight = (name) => tensors.get(`transformer.${name}`);
  }

  /**
   * Run the model on one prompt.
   * @param {number[]} tokens the whole prompt, BOS included
   * @param {Array<[number, number]>} off heads as [layer, head], whose z is replaced at every position
   * @param {?Float32Array} means [layer head headWidth], what replaces z; zero without it
   * @param {?object} before a run of the same prompt with no head off: what lies before the first head that is off is
   *   taken from there
   * @returns {{patterns: Float32Array[], streams: Float32Array[], logits: Float32Array}} per layer [head query key] and
   *   the stream before it, [position width]; [position vocabulary]
   */
  run(tokens, off = [], means = null, before = null) {
    const first = before ? Math.min(...off.map(([layer]) => layer)) : 0;
    const patterns = before ? before.patterns.slice(0, first) : [], streams = [];
    const stream = before ? before.streams[first].slice() : this.embed(tokens);
    for (let layer = first; layer < this.layers; layer++) {
      streams[layer] = stream.slice();
      const { pattern, z } = this.attention(layer, this.norm(stream, `h.${layer}.ln_1`));
      for (const [, head] of off.filter(([each]) => each === layer)) this.replace(layer, head, z, means);
      patterns.push(pattern);
      add(stream, this.linear(z, `h.${layer}.attn.c_proj`));
      const inner = this.linear(this.norm(stream, `h.${layer}.ln_2`), `h.${layer}.mlp.c_fc`);
      add(stream, this.linear(gelu(inner), `h.${layer}.mlp.c_proj`));
    }
    return { patterns, streams, logits: this.unembed(this.norm(stream, "ln_f")) };
  }

  /** The stream before the first layer: [position width]. */
  embed(tokens) {
    const { width } = this, stream = new Float32Array(tokens.length * width);
    const embedding = this.weight("wte.weight"), places = this.weight("wpe.weight");
    for (let at = 0; at < tokens.length; at++) {
      for (let i = 0; i < width; i++) {
        stream[at * width + i] = embedding[tokens[at] * width + i] + places[at * width + i];
      }
    }
    return stream;
  }

  /** The pattern [head query key] of a layer, and z [position head headWidth]: the values, weighted by it. */
  attention(layer, input) {
    const { width, heads, headWidth: d } = this, length = input.length / width;
    const qkv = this.linear(input, `h.${layer}.attn.c_attn`); // [position (query key value) head headWidth]
    const pattern = new Float32Array(heads * length * length), z = new Float32Array(length * width);
    for (let head = 0; head < heads; head++) {
      for (let query = 0; query < length; query++) {
        const row = pattern.subarray((head * length + query) * length, (head * length + query + 1) * length);
        const q = query * 3 * width + head * d;
        for (let key = 0; key <= query; key++) {
          const k = key * 3 * width + width + head * d;
          let score = 0;
          for (let i = 0; i < d; i++) score += qkv[q + i] * qkv[k + i];
          row[key] = score / Math.sqrt(d);
        }
        softmax(row, query + 1);
        const out = query * width + head * d;
        for (let key = 0; key <= query; key++) {
          const v = key * 3 * width + 2 * width + head * d;
          for (let i = 0; i < d; i++) z[out + i] += row[key] * qkv[v + i];
        }
      }
    }
    return { pattern, z };
  }

  /** Replace z [position head headWidth] of one head at every position: by its mean, or by zero. */
  replace(layer, head, z, means) {
    const from = head * this.headWidth, mean = layer * this.width + from;
    for (let at = from; at < z.length; at += this.width) {
      for (let i = 0; i < this.headWidth; i++) z[at + i] = means ? means[mean + i] : 0;
    }
  }

  /** Layer norm of each position. */
  norm(x, name) {
    const { width } = this, out = new Float32Array(x.length);
    const gain = this.weight(`${name}.weight`), bias = this.weight(`${name}.bias`);
    for (let at = 0; at < x.length; at += width) {
      let mean = 0, spread = 0;
      for (let i = 0; i < width; i++) mean += x[at + i] / width;
      for (let i = 0; i < width; i++) spread += (x[at + i] - mean) ** 2 / width;
      const scale = 1 / Math.sqrt(spread + this.epsilon);
      for (let i = 0; i < width; i++) out[at + i] = (x[at + i] - mean) * scale * gain[i] + bias[i];
    }
    return out;
  }

  /** x [position in] times weights [in out], plus bias: [position out]. */
  linear(x, name) {
    const weight = this.weight(`${name}.weight`), bias = this.weight(`${name}.bias`);
    const wide = bias.length, narrow = weight.length / wide, length = x.length / narrow;
    const out = new Float32Array(length * wide);
    for (let at = 0; at < length; at++) {
      const row = out.subarray(at * wide, (at + 1) * wide);
      row.set(bias);
      for (let i = 0; i < narrow; i += 4) { // four rows of weights at once: a quarter of the writes
        const from = at * narrow + i, a = x[from], b = x[from + 1], c = x[from + 2], d = x[from + 3];
        for (let j = 0, w = i * wide; j < wide; j++, w++) {
          row[j] += a * weight[w] + b * weight[w + wide] + c * weight[w + 2 * wide] + d * weight[w + 3 * wide];
        }
      }
    }
    return out;
  }

  /** Logits [position vocabulary] of the last stream [position width]; the embedding is the unembedding. */
  unembed(x) {
    const { width, vocabulary } = this, embedding = this.weight("wte.weight"), length = x.length / width;
    const out = new Float32Array(length * vocabulary);
    for (let token = 0, row = 0; token < vocabulary; token++, row += width) {
      for (let at = 0, from = 0; at < length; at++, from += width) {
        let a = 0, b = 0, c = 0, d = 0; // four sums that do not wait for one another
        for (let i = 0; i < width; i += 4) {
          a += x[from + i] * embedding[row + i];
          b += x[from + i + 1] * embedding[row + i + 1];
          c += x[from + i + 2] * embedding[row + i + 2];
          d += x[from + i + 3] * embedding[row + i + 3];
        }
        out[at * vocabulary + token] = a + b + c + d;
      }
    }
    return out;
  }
}

function add(to, what) {
  for (let i = 0; i < to.length; i++) to[i] += what[i];
}

function gelu(x) {
  const root = Math.sqrt(2 / Math.PI);
  return x.map((value) => 0.5 * value * (1 + Math.tanh(root * value * (1 + 0.044715 * value * value))));
}

/** Turn the first `count` numbers into weights that sum to 1, in place. */
export function softmax(row, count = row.length) {
  let most = -Infinity, total = 0;
  for (let i = 0; i < count; i++) most = Math.max(most, row[i]);
  for (let i = 0; i < count; i++) total += row[i] = Math.exp(row[i] - most);
  for (let i = 0; i < count; i++) row[i] /= total;
  return row;
}
