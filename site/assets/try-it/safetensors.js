/* Reads a file of safetensors: eight bytes with the length of a JSON header, the header, then the numbers. */

/** Half precision to single: a table of all 65,536 numbers. */
function halves() {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    table[bits] = sign * (exponent === 31 ? (fraction ? NaN : Infinity) : size);
  }
  return table;
}

/** @param {ArrayBuffer} file @returns {Map<string, Float32Array>} every tensor by name, row by row */
export function readSafetensors(file) {
  const length = Number(new DataView(file).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  const table = halves(), start = 8 + length, tensors = new Map();
  for (const [name, about] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, data_offsets: [from, to] } = about;
    const raw = file.slice(start + from, start + to);
    if (dtype === "F32") tensors.set(name, new Float32Array(raw));
    else if (dtype === "F16") tensors.set(name, Float32Array.from(new Uint16Array(raw), (bits) => table[bits]));
    else throw new Error(`${name} holds ${dtype}; this page reads F16 and F32`);
  }
  return tensors;
}
