// Small pieces of page. Whatever comes from outside becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name === "on") made.addEventListener("click", value);
    else if (name.startsWith("data-") || name.startsWith("aria-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function facts(rows) {
  const list = make("dl", { class: "facts" });
  for (const [name, value, mood] of rows) {
    if (value === null || value === undefined) continue;
    list.append(make("dt", {}, name), make("dd", { class: mood || "" }, String(value)));
  }
  return list;
}

export function table(caption, heads, rows) {
  const body = make("tbody");
  for (const row of rows) {
    body.append(make("tr", {}, ...row.map((cell, i) => make(i ? "td" : "th", i ? {} : { scope: "row" }, String(cell)))));
  }
  const head = make("thead", {}, make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name))));
  return make("div", { class: "wide", tabIndex: 0, role: "region", "aria-label": caption }, make("table", {}, head, body));
}

// A curve through [x, y] pairs, and what it shows in words for those who do not see it.
export function curve(points, words) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "chart");
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", words);
  if (points.length < 2) return svg;
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const place = ([x, y]) => [
    (100 * (x - left)) / (right - left || 1),
    38 - (36 * (y - low)) / (high - low || 1),
  ].map((n) => n.toFixed(2)).join(" ");
  const line = `M${points.map(place).join("L")}`;
  for (const [name, d] of [["under", `${line}L100 40L0 40Z`], ["curve", line]]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

const WHOLE = new Intl.NumberFormat("en");

export function whole(n) {
  return WHOLE.format(Math.round(n));
}

export function bits(n) {
  if (n === null || n === undefined) return null;
  const bytes = n / 8;
  for (const [size, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (bytes >= size) return `${(bytes / size).toPrecision(3)} ${unit}`;
  }
  return `${whole(bytes)} B`;
}

export function lasts(seconds) {
  if (seconds === null || seconds === undefined) return null;
  for (const [size, unit] of [[365.25 * 86400, "years"], [86400, "days"], [3600, "hours"], [60, "minutes"]]) {
    if (seconds >= 2 * size) {
      const n = seconds / size;
      return `${n >= 1e6 ? n.toExponential(1) : whole(n)} ${unit}`;
    }
  }
  return `${whole(seconds)} s`;
}

export function share(n) {
  if (n === null || n === undefined) return null;
  return n === 0 || n >= 0.001 ? `${(100 * n).toFixed(n >= 0.1 ? 2 : 3)} %` : `${(100 * n).toExponential(1)} %`;
}

export function when(seconds) {
  return new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ");
}
