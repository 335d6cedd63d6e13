/* Pages outside the site builder (one per named head) follow the light or dark scheme that its pages keep. */
"use strict";

const place = new URL(document.currentScript.dataset.root, location).pathname;
const key = `${place}.__palette`; // where the theme keeps the scheme
const schemes = ["default", "slate"];

function kept() {
  try {
    return JSON.parse(localStorage.getItem(key))?.color?.scheme;
  } catch {
    return null;
  }
}

function wear(scheme) {
  document.documentElement.dataset.mdColorScheme = scheme;
  const button = document.querySelector("[data-plain-scheme]");
  if (button) button.textContent = scheme === "slate" ? "Light mode" : "Dark mode";
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const current = () => kept() ?? schemes[Number(dark.matches)];
wear(current());
dark.addEventListener("change", () => wear(current()));

document.addEventListener("DOMContentLoaded", () => {
  const button = document.querySelector("[data-plain-scheme]");
  button.hidden = false;
  wear(current());
  button.addEventListener("click", () => {
    const index = 1 - schemes.indexOf(current());
    const media = `(prefers-color-scheme: ${index ? "dark" : "light"})`;
    const color = { media, scheme: schemes[index], primary: "custom", accent: "custom" };
    localStorage.setItem(key, JSON.stringify({ index, color }));
    wear(schemes[index]);
  });
});
