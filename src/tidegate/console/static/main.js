// The page: who is here, what happens now, and what happened.

import { ask, trust } from "/static/ask.js";
import { make } from "/static/draw.js";
import * as events from "/static/events.js";
import * as grants from "/static/grants.js";
import * as parts from "/static/parts.js";

const STALE_MS = 5000;
const fresh = document.getElementById("fresh");
const dialog = document.getElementById("detail");
let last = 0;

function open(title, pieces) {
  document.getElementById("detail-title").textContent = title;
  document.getElementById("detail-body").replaceChildren(...pieces.filter((piece) => piece !== null));
  if (!dialog.open) dialog.showModal();
}

function follow(person) {
  const live = new EventSource("/api/live");
  live.addEventListener("picture", (message) => {
    const picture = JSON.parse(message.data);
    last = performance.now();
    parts.show(picture);
    grants.show(picture.grants, person, open);
    document.title = `${picture.headline.mood === "good" ? "" : "! "}Tidegate ${picture.name}`;
    tell();
  });
  live.addEventListener("event", (message) => events.happened(JSON.parse(message.data)));
  live.addEventListener("over", () => location.assign("/login"));
  live.addEventListener("error", () => {
    // The browser tries again by itself, except where it was turned away for good.
    if (live.readyState === EventSource.CLOSED) setTimeout(() => ask("/api/me").then(() => follow(person), () => {}), 3000);
  });
}

// An old picture must never pass for the present one.
function tell() {
  const old = !last || performance.now() - last > STALE_MS;
  const says = old ? "NOT LIVE: no word from the console" : "live";
  if (fresh.textContent !== says) fresh.textContent = says;
  fresh.className = old ? "bad" : "good";
  document.body.classList.toggle("old", old);
}

function themes() {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
}

async function begin() {
  themes();
  const person = await ask("/api/me");
  trust(person.csrf);
  document.getElementById("who").textContent = `${person.name}, ${person.role}`;
  document.getElementById("logout").addEventListener("click", async () => {
    await ask("/api/logout", {});
    location.assign("/login");
  });
  document.getElementById("detail-close").addEventListener("click", () => dialog.close());
  setInterval(tell, 1000);
  await events.begin(person, open);
  follow(person);
}

begin().catch((error) => {
  document.getElementById("says").textContent = error.message;
  document.getElementById("because").replaceChildren(make("li", {}, "Reload the page to try again."));
});
