/* What is shown, as the address keeps it: a link opens the same text, model, head, and heads that are off. */

const LONGEST = 4000; // characters of a text; far more than fit the model's context

export const nameOf = ([layer, head]) => `L${layer}H${head}`;
export const headOf = (name) => /^L(\d+)H(\d+)$/.exec(name)?.slice(1).map(Number);

/** @returns {{model: ?string, text: ?string, sample: ?string, head: ?string, off: string[], how: "mean"|"zero"}} */
export function readAddress(address) {
  const given = new URL(address).searchParams;
  return {
    model: given.get("model"),
    text: given.get("text")?.slice(0, LONGEST) ?? null,
    sample: given.get("sample"),
    head: given.get("head"),
    off: (given.get("off") ?? "").split(/[ ,]+/).filter(headOf),
    how: given.get("how") === "zero" ? "zero" : "mean",
  };
}

/** The address of a state; what is not said is as at the start. */
export function addressOf(state, here) {
  const address = new URL(here);
  const said = { ...state, off: state.off.join(" "), how: state.off.length && state.how === "zero" ? "zero" : "" };
  for (const [name, value] of Object.entries(said)) {
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
  }
  return address;
}
