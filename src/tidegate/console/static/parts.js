// The cards: each takes its part of the picture, known or missing, and fills its place.

import { bits, curve, facts, lasts, make, share, table, when, whole } from "/static/draw.js";

function known(part) {
  return part.is !== "missing";
}

function missing(part) {
  return [make("p", { class: "missing" }, part.wanted ? `Not known: ${part.reason}.` : "Not set up. docs/howto/console.md says how.")];
}

function budget(part) {
  const total = part.accounts[0];
  const allowed = total.left === null ? null : total.spent + total.reserved + total.left;
  const rows = part.accounts.map((one) => [
    one.scope, bits(one.spent), one.left === null ? "no cap" : bits(one.left), `${bits(one.a_second)}/s`, lasts(one.empty_in_s) || "–",
  ]);
  return [
    make("p", { class: "big" }, total.left === null ? "no cap" : bits(total.left), " ", make("small", {}, "left in all")),
    allowed ? make("meter", { min: 0, max: allowed, value: total.left, "aria-label": "share of the budget that is left" }) : null,
    facts([
      ["spent", `${bits(total.spent)} (${whole(total.spent)} bits)`],
      ["held by leases", bits(total.reserved)],
      ["now", `${bits(total.a_second)}/s`],
      ["used up in", lasts(total.empty_in_s) || "never, at this speed"],
      ["weights out, at this speed", part.weight_bits ? lasts(part.exfiltrate_s) || "never" : null],
      ["weights out, at the caps", part.weight_bits ? lasts(part.exfiltrate_cap_s) || "never: the caps forbid it" : null],
    ]),
    curve(part.history, `Bits that crossed, up to ${whole(part.history.length ? part.history[part.history.length - 1][1] : 0)}`),
    table("Accounts", ["account", "left the inner half", "may still", "now", "lasts"], rows),
  ];
}

function link(part) {
  const edges = Object.entries(part.edges_up);
  return [
    make("p", { class: "big" }, part.bits_a_token === null ? "–" : part.bits_a_token.toFixed(2), " ", make("small", {}, "bits a token")),
    facts([
      ["model", part.model],
      ...edges.map(([edge, up]) => [edge, up ? "in step" : "down", up ? "good" : "bad"]),
      ["streams", part.slots ? `${part.streams} of ${part.slots} slots` : part.streams],
      ["tokens", whole(part.tokens)],
      ["padding", part.bits ? share(part.padding_bits / part.bits) : null],
    ]),
    table("Principals", ["principal", "tokens", "crossed", "bits a token"], part.uses.map((use) => [
      use.principal || "(nobody)", whole(use.tokens), bits(use.bits), use.bits_a_token === null ? "–" : use.bits_a_token.toFixed(2),
    ])),
    facts(Object.entries(part.incidents).map(([kind, count]) => [`incident: ${kind}`, whole(count), "bad"])),
    facts(Object.entries(part.refusals).map(([code, count]) => [`refused: ${code}`, whole(count)])),
  ];
}

const OUTCOMES = { pass: ["pass", "good"], fail: ["FAIL", "bad"], cannot_verify: ["cannot verify", "watch"] };

function verification(part) {
  const [says, mood] = OUTCOMES[part.outcome] || [part.outcome, "watch"];
  return [
    make("p", { class: `big ${mood}` }, says),
    make("p", { class: "hint" }, part.reason),
    facts([
      ["answers re-executed", whole(part.answers)],
      ["tokens scored", `${whole(part.scored)} of ${whole(part.tokens)}`],
      ["match rate", share(part.match_rate)],
      ["could still hide", part.leak_bits_a_token === null ? "no bound" : `${part.leak_bits_a_token.toPrecision(3)} bits a token`],
      ["share of a token's bits", share(part.leak_share)],
      ["as of", when(part.written)],
    ]),
    ...part.tests.flatMap((test) => [
      make("h3", {}, test.name),
      curve(test.curve, `${test.name} over tokens scored; now ${test.curve.length ? test.curve[test.curve.length - 1][1] : "nothing"}`),
    ]),
    facts(Object.entries(part.findings).map(([kind, count]) => [kind, whole(count), "bad"])),
  ];
}

function gate(part) {
  const agrees = { true: ["agrees", "good"], false: ["DISAGREES", "bad"], null: ["–", ""] };
  return [
    make("p", { class: `big ${part.open ? "good" : "bad"}` }, part.open ? "open" : "shut"),
    make("p", { class: "hint" }, part.reason),
    facts([["meters", part.agreement]]),
    table("Meters", ["meter", "bytes", "agreement"], part.meters.map((meter) => [
      meter.name, meter.counted === null ? "cannot be read" : whole(meter.counted), agrees[String(meter.agrees)][0],
    ])),
    table("Classes", ["class", "used", "quota"], part.classes.map((one) => [
      one.name, bits(8 * one.used), one.quota ? bits(8 * one.quota) : "–",
    ])),
  ];
}

const PARTS = { budget, link, verification, gate };

export function show(picture) {
  document.getElementById("name").textContent = picture.name;
  const headline = document.getElementById("headline");
  headline.dataset.mood = picture.headline.mood;
  say(document.getElementById("says"), picture.headline.says);
  const because = document.getElementById("because");
  const reasons = picture.headline.because.slice(0, 8);
  if (because.dataset.now !== JSON.stringify(reasons)) {
    because.dataset.now = JSON.stringify(reasons);
    because.replaceChildren(...reasons.map((reason) => make("li", {}, reason)));
  }
  for (const [name, draw] of Object.entries(PARTS)) {
    const part = picture[name];
    fill(document.querySelector(`#${name} .body`), part, known(part) ? draw : missing);
  }
}

// Unchanged parts are left alone, so that reading, selecting and scrolling are not disturbed.
export function fill(place, part, draw) {
  const now = JSON.stringify(part);
  if (place.dataset.now === now) return;
  place.dataset.now = now;
  place.replaceChildren(...draw(part).filter((piece) => piece !== null));
}

function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
