// The planner's page: sliders over the closed forms, and the plots. Data comes from the page itself.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const names = ["A", "B"];
  const original = data.answers.map((answer) =>
    Object.fromEntries(answer.inputs.map((input) => [input.name, input.value])));
  const current = original.map((values) => ({ ...values }));
  const $ = (id) => document.getElementById(id);
  let chosen = 0;

  function days(value) {
    if (value === null || value === undefined || !isFinite(value)) return "never";
    const number = (x) => x.toLocaleString("en", { maximumSignificantDigits: 3 });
    if (value < 1 / 24) return number(value * 1440) + " minutes";
    if (value < 2) return number(value * 24) + " hours";
    if (value < 1000) return number(value) + " days";
    return number(value / 365) + " years";
  }
  const plain = (x) => {
    const size = Math.abs(x);
    return size !== 0 && (size >= 1e6 || size < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(3)));
  };
  const shown = (x, unit) =>
    unit === "share" ? plain(100 * x) + " %" : unit === "days" ? days(x) : plain(x) + " " + unit;

  // 1. The page's closed forms must be the planner's: said loudly where they are not.
  const off = data.answers.some((answer, i) => {
    const ours = tidegate.answer(original[i], data.duties);
    const theirs = answer.point.days === null ? Infinity : answer.point.days;
    const near = (a, b) => a === b || Math.abs(a / b - 1) < 1e-6;
    return !near(ours.days, theirs) || !near(ours.copies, answer.point.copies);
  });
  $("off").hidden = !off;

  // 2. Sliders.
  function scale(input) {
    if (input.name === "model.rotation") return { low: 1, high: 2000, log: true };
    let { low, high } = input;
    if (low === high) {
      low = Math.max(input.least, input.value / 10);
      high = Math.min(input.most === null ? Infinity : input.most, input.value > 0 ? input.value * 10 : 1);
    }
    return { low, high, log: low > 0 };
  }
  const valueAt = (s, at) => s.log ? s.low * (s.high / s.low) ** at : s.low + (s.high - s.low) * at;
  const placeOf = (s, value) => s.log
    ? Math.log(value / s.low) / Math.log(s.high / s.low) : (value - s.low) / (s.high - s.low);

  function slider(input) {
    const s = scale(input);
    if (!(s.high > s.low)) return null;
    const row = document.createElement("label");
    row.className = "slider";
    const text = document.createElement("span");
    const range = document.createElement("input");
    Object.assign(range, { type: "range", min: 0, max: 1000, step: 1 });
    const rotation = input.name === "model.rotation";
    const value = current[chosen][input.name];
    range.value = value === undefined ? 1000 : Math.round(1000 * placeOf(s, value));
    const tell = () => {
      const now = current[chosen][input.name];
      const told = now === undefined ? "never" : shown(now, input.unit);
      const [name, means, amount] = ["b", "i", "b"].map((tag) => document.createElement(tag));
      name.textContent = input.name.replace(".", ": ").replaceAll("_", " ");
      means.textContent = input.means;
      amount.textContent = told;
      text.replaceChildren(name, amount, means);
      range.setAttribute("aria-valuetext", told);
      row.classList.toggle("moved", now !== original[chosen][input.name]);
    };
    range.addEventListener("input", () => {
      if (rotation && range.value === "1000") delete current[chosen][input.name];
      else current[chosen][input.name] = valueAt(s, range.value / 1000);
      tell();
      update();
    });
    row.title = input.name + ": " + input.source;
    row.append(text, range);
    tell();
    return row;
  }

  function sliders() {
    const answer = data.answers[chosen];
    const inputs = answer.inputs.some((input) => input.name === "model.rotation")
      ? answer.inputs : [...answer.inputs, data.rotation];
    for (const [id, open] of [["open", true], ["choices", false]]) {
      const rows = inputs.filter((input) => (input.low < input.high) === open).map(slider);
      $(id).replaceChildren(...rows.filter(Boolean));
    }
  }

  // 3. Plots.
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (i) => style(i ? "--second" : "--first");
  const glass = (i) => style(i ? "--second-glass" : "--first-glass");
  const narrow = () => window.innerWidth < 640;

  function plot(id, traces, title, x, y) {
    const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true };
    const told = traces.filter((trace) => trace.showlegend !== false && trace.name).length;
    const below = told > 1 ? (narrow() ? 20 * told : 45) : 0;
    const layout = {
      title: { text: title, font: { size: 15 }, x: 0, xanchor: "left" },
      xaxis: { ...axis, ...x, title: { text: x.title } },
      yaxis: { ...axis, ...y, title: { text: narrow() ? "" : y.title } },
      font: { family: "system-ui, sans-serif", size: 13, color: style("--text") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: narrow() ? 40 : 60, r: 10, t: 40, b: 50 + below }, height: 330 + below, showlegend: told > 1,
      legend: { orientation: narrow() ? "v" : "h", yref: "container", y: 0, yanchor: "bottom", x: 0 }, barmode: "group", hovermode: "closest",
    };
    Plotly.react(id, traces, layout, { displaylogo: false, responsive: true, displayModeBar: false });
  }

  const many = data.answers.length > 1;
  const label = (i, text) => (many ? names[i] + ": " : "") + text;

  function banded(curve, i, text) {
    const line = { width: 0 };
    return [
      { x: curve.x, y: curve.p95, line, mode: "lines", hoverinfo: "skip", showlegend: false },
      { x: curve.x, y: curve.p5, line, mode: "lines", fill: "tonexty", fillcolor: glass(i),
        name: label(i, "90% of lifetimes"), hoverinfo: "skip" },
      { x: curve.x, y: curve.p50, mode: "lines", line: { color: colour(i), width: 2 }, name: label(i, text) },
    ];
  }
  const mine = (x, y) => ({ x, y, mode: "lines", name: "your values", line: { color: style("--mine"), width: 2, dash: "dot" } });
  const moved = () => Object.keys(current[chosen]).length !== Object.keys(original[chosen]).length ||
    Object.entries(current[chosen]).some(([name, value]) => value !== original[chosen][name]);
  const withValue = (changes) => {
    const values = { ...current[chosen], ...changes };
    for (const name of Object.keys(changes)) if (changes[name] === undefined) delete values[name];
    return tidegate.answer(values, data.duties);
  };
  const finite = (x) => isFinite(x) ? x : null;

  function draw() {
    const curves = data.answers.map((answer) => answer.curves);
    const own = moved();
    const fan = curves.flatMap((c, i) => banded(c.fan, i, "median"));
    if (own) fan.push(mine(curves[0].fan.x, curves[0].fan.x.map((x) => withValue({ "model.lifetime": x || 1e-9 }).copies)));
    plot("fan", fan, "How much is out by when", { title: "days from today" }, { title: "copies' worth of bits", ...(many ? { type: "log" } : { rangemode: "tozero" }) });
    plot("chance", curves.map((c, i) => ({ x: c.chance_x, y: c.chance_y, mode: "lines", name: label(i, "share of lifetimes"), line: { color: colour(i), width: 2 } })),
      "Chance that the weights are out", { title: "days from today", type: "log" }, { title: "share of lifetimes", range: [0, 1.02] });
    const cap = curves.flatMap((c, i) => banded(c.cap, i, "median days"));
    data.answers.forEach((answer, i) => cap.push({
      x: [answer.point.honest_bits_a_day], y: [answer.days.p50], mode: "markers", name: label(i, "honest use today"),
      marker: { color: colour(i), size: 10, symbol: "diamond-open" },
    }));
    if (own) cap.push(mine(curves[chosen].cap.x, curves[chosen].cap.x.map((x) => finite(withValue({ "link.headroom": undefined, "link.cap": x }).days))));
    plot("cap", cap, "What a fixed cap buys", { title: "cap, bits a day", type: "log", exponentformat: "e" }, { title: "days", type: "log" });
    const packing = curves.flatMap((c, i) => banded(c.packing, i, "median"));
    packing.push({ x: [1, 100], y: [1, 1], mode: "lines", name: "one copy", line: { color: style("--bad"), width: 1, dash: "dash" }, hoverinfo: "skip" });
    if (own) packing.push(mine(curves[chosen].packing.x, curves[chosen].packing.x.map((x) => withValue({ "attacker.lossless_compression": 1, "attacker.lossy_compression": x }).copies)));
    plot("packing", packing, "Copies leaked in the model's life", { title: "how far he packs weights, x", type: "log" }, { title: "copies", type: "log" });
    tornado();
    ways();
  }

  function tornado() {
    const here = tidegate.answer(current[chosen], data.duties).days;
    const rows = data.answers[chosen].inputs.filter((input) => input.low < input.high).map((input) => {
      const [low, high] = [input.low, input.high].map((value) => withValue({ [input.name]: value }).days);
      return { input, low, high, width: Math.abs(Math.log(low / high)) || 0 };
    }).filter((row) => row.width > 1e-9).sort((a, b) => a.width - b.width).slice(-12);
    const side = (key, name, hue) => ({
      type: "bar", orientation: "h", name, marker: { color: hue },
      y: rows.map((row) => row.input.name.split(".")[1].replaceAll("_", " ")),
      x: rows.map((row) => isFinite(row[key]) && isFinite(here) ? Math.log10(row[key] / here) : 0),
      text: rows.map((row) => days(row[key])), textposition: "none",
      hovertext: rows.map((row) => shown(row.input[key], row.input.unit) + ": " + days(row[key])), hoverinfo: "text",
    });
    const base = isFinite(here) ? days(here) : "never";
    const ticks = [-1e4, -1000, -100, -10, -3, 1, 3, 10, 100, 1000, 1e4];
    plot("tornado", [side("low", "at its least", style("--first")), side("high", "at its most", style("--second"))],
      "What moves the answer (" + base + ")",
      { title: "times as many days", tickvals: ticks.map((x) => Math.sign(x) * Math.log10(Math.abs(x))), ticktext: ticks.map((x) => x === 1 ? "same" : x < 0 ? "÷" + -x : "×" + x) },
      { title: "" });
  }

  function ways() {
    const told = tidegate.answer(current[chosen], data.duties);
    const duty = told.rows.filter((row) => row.duty > 0 && isFinite(row.days)).sort((a, b) => a.days - b.days)[0];
    const rows = told.rows.filter((row) => row.duty === 0).concat(duty || []);
    const bars = rows.filter((row) => isFinite(row.days));
    plot("ways", [{
      type: "bar", orientation: "h", marker: { color: bars.map((row) => row.name === told.strategy ? style("--bad") : style("--first")) },
      y: bars.map((row) => row.name), x: bars.map((row) => row.days),
      text: bars.map((row) => days(row.days)), hoverinfo: "y+text",
    }], "Days by strategy; his best in red", { title: "days", type: "log", exponentformat: "e" }, { title: "" });
  }

  function cost(v) {
    const verify = v["verification.audit_rate"] * v["cost.verify_over_generate"];
    return verify + v["cost.link_slowdown"] / (1 - v["cost.link_slowdown"]);
  }

  function update() {
    const told = tidegate.answer(current[chosen], data.duties);
    const base = tidegate.answer(original[chosen], data.duties);
    const life = current[chosen]["model.lifetime"];
    $("mine-days").textContent = days(told.days);
    $("mine-was").textContent = moved() ? "was " + days(base.days) : "at the scenario's values";
    $("mine-copies").textContent = plain(told.copies);
    $("mine-binds").textContent = told.binds;
    $("mine-strategy").textContent = told.strategy;
    $("mine-cost").textContent = shown(cost(current[chosen]), "share");
    $("mine-life").textContent = told.days <= life ? "within the model's life" : "not within the model's life";
    $("mine-life").className = told.days <= life ? "bad" : "good";
    window.cancelAnimationFrame(update.frame);
    update.frame = window.requestAnimationFrame(draw);
  }

  function choose(i) {
    chosen = i;
    document.querySelectorAll("[data-choose]").forEach((button) =>
      button.setAttribute("aria-pressed", String(Number(button.dataset.choose) === i)));
    sliders();
    update();
  }
  document.querySelectorAll("[data-choose]").forEach((button) =>
    button.addEventListener("click", () => choose(Number(button.dataset.choose))));
  $("reset").addEventListener("click", () => {
    current[chosen] = { ...original[chosen] };
    choose(chosen);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; draw(); }
  });
  choose(0);
})();
