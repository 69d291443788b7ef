// The list of events, and what is behind one.

import { ask } from "/static/ask.js";
import { facts, make, when, whole } from "/static/draw.js";

const SEVERITIES = { 1: "information", 2: "low", 3: "medium", 4: "high", 5: "critical" };
const KEPT = 300;
const list = document.getElementById("events");
const form = document.getElementById("filter");
const older = document.getElementById("older");
const end = document.getElementById("end");
let before = null;
let person = null;
let open = null;

export function begin(who, opener) {
  person = who;
  open = opener;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
  older.addEventListener("click", () => load(before));
  document.addEventListener("keydown", keys);
  return load();
}

export function happened(event) {
  const wanted = asked();
  const matches = event.severity >= Number(wanted.get("severity") || 1)
    && (!wanted.get("kind") || wanted.get("kind") === event.kind)
    && (!wanted.get("subject") || wanted.get("subject") === event.subject)
    && (!wanted.get("open_only") || (!event.done && event.severity >= 3));
  if (!matches) return;
  list.prepend(row(event));
  if (before === null) end.textContent = "No older ones.";
  while (list.children.length > KEPT) list.lastElementChild.remove();
}

function asked() {
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) wanted.set(name, value.trim());
  return wanted;
}

async function load(from = null) {
  const wanted = asked();
  if (from !== null) wanted.set("before", from);
  try {
    const page = await ask(`/api/events?${wanted}`);
    const rows = page.events.map(row);
    if (from === null) list.replaceChildren(...rows);
    else list.append(...rows);
    before = page.before;
    older.hidden = before === null;
    end.textContent = before === null ? (list.children.length ? "No older ones." : "Nothing of the kind.") : "";
  } catch (error) {
    end.textContent = error.message;
  }
}

function row(event) {
  const button = make("button", {
    type: "button", class: event.done ? "done" : "", "data-severity": String(event.severity), "data-n": String(event.n), on: () => look(event.n),
  },
  make("span", { class: event.severity >= 4 ? "bad" : event.severity === 3 ? "watch" : "soft" }, SEVERITIES[event.severity]),
  make("span", { class: "soft" }, when(event.time)),
  make("span", { class: "soft" }, event.subject || event.source),
  make("span", { class: "title" }, event.title));
  return make("li", {}, button);
}

async function look(n) {
  try {
    const kept = await ask(`/api/events/${n}`);
    const event = kept.event;
    const answers = answersIn(event.body);
    const place = make("div");
    open(event.title, [
      facts([
        ["severity", SEVERITIES[event.severity]], ["when", when(event.time)], ["kind", event.kind], ["source", event.source],
        ["subject", event.subject || null], ["state", kept.done ? "dealt with" : event.severity >= 3 ? "open" : null],
      ]),
      make("h3", {}, "Evidence"),
      make("pre", { tabIndex: 0 }, JSON.stringify(event.body, null, 2)),
      answers.length ? make("p", { class: "row" }, ...answers.map((number) =>
        make("button", { type: "button", on: () => record(number, place) }, `Answer ${number} in the record`))) : null,
      place,
      person.role === "operator" && !kept.done && event.severity >= 3
        ? make("button", { type: "button", class: "main", on: () => finish(n, place) }, "Dealt with") : null,
    ]);
  } catch (error) {
    open("The event cannot be shown", [make("p", { role: "alert", class: "bad" }, error.message)]);
  }
}

// Findings name answers by the entry of the record that began them.
function answersIn(body) {
  const found = new Set();
  const search = (value) => {
    if (Array.isArray(value)) value.forEach(search);
    else if (value && typeof value === "object") {
      for (const [name, inner] of Object.entries(value)) {
        if (name === "response" && Number.isInteger(inner)) found.add(inner);
        else search(inner);
      }
    }
  };
  search(body);
  return [...found].slice(0, 20);
}

async function record(number, place, said = false) {
  try {
    const answer = await ask(`/api/answers/${number}${said ? "?said=true" : ""}`);
    const entries = answer.entries;
    place.replaceChildren(
      make("h3", {}, `Answer ${number}, as recorded (unverified)`),
      facts([
        ["principal", answer.principal], ["request", answer.request], ["prompt tokens", whole(answer.prompt_tokens)],
        ["tokens", whole(answer.tokens)], ["at most", whole(answer.max_tokens)],
        ...entries.filter((entry) => entry.kind === "end").map((entry) => ["ended", `${entry.reason}, ${whole(entry.bits)} bits`]),
      ]),
      make("pre", { tabIndex: 0 }, entries.map((entry) => JSON.stringify(entry)).join("\n")),
      ...(answer.said ? [make("h3", {}, "Prompt"), make("pre", { tabIndex: 0 }, answer.said.prompt), make("h3", {}, "Answer"), make("pre", { tabIndex: 0 }, answer.said.answer)] : []),
      person.reads_prompts && !said ? make("button", { type: "button", on: () => record(number, place, true) }, "Show what was said (this is logged)") : "",
    );
  } catch (error) {
    place.replaceChildren(make("p", { role: "alert", class: "bad" }, error.message));
  }
}

async function finish(n, place) {
  try {
    await ask(`/api/events/${n}/done`, {});
    place.replaceChildren(make("p", { class: "good", role: "status" }, "Marked as dealt with."));
    const button = list.querySelector(`[data-n="${n}"]`);
    if (button) button.classList.add("done");
  } catch (error) {
    place.replaceChildren(make("p", { role: "alert", class: "bad" }, error.message));
  }
}

function keys(event) {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.altKey || event.metaKey || !["j", "k"].includes(event.key)) return;
  const buttons = [...list.querySelectorAll("button")];
  if (!buttons.length) return;
  const at = buttons.indexOf(document.activeElement);
  const next = event.key === "j" ? Math.min(at + 1, buttons.length - 1) : Math.max(at - 1, 0);
  buttons[next].focus();
  event.preventDefault();
}
