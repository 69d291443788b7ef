// The planner's closed forms for one set of values, so that a page can answer while a slider moves.
// The same as tidegate.plan.model and growth; the page compares the two when it opens.
"use strict";
const tidegate = (() => {
  const STILL = 1e-12, YEAR = 365;
  const BINDING = [
    "the cap", "what re-execution lets pass", "how many tokens are served",
    "how many failures go unnoticed", "how soon he is caught",
    "headroom and unnoticed failures", "rotation of the weights",
  ];

  function meets(first, ceiling, g) {
    if (Math.abs(g) < STILL) return first < ceiling ? Infinity : 0;
    return Math.max(Math.log(ceiling / first) / g, 0);
  }
  const stretched = (days, g) => Math.abs(g) < STILL ? days : Math.expm1(g * days) / g;
  function undone(bits, first, g) {
    const flat = bits / first;
    if (Math.abs(g) < STILL) return flat;
    return g * flat > -1 ? Math.log1p(g * flat) / g : Infinity;
  }

  function total(days, first, ceiling, g) {
    if (!isFinite(ceiling)) return first * stretched(days, g);
    const at = meets(first, ceiling, g);
    const rises = g > -STILL;
    const free = rises ? Math.min(days, at) : Math.max(days - at, 0);
    const begin = rises ? first : Math.min(first, ceiling);
    return begin * stretched(free, g) + (days > free ? ceiling * (days - free) : 0);
  }

  function daysFor(bits, first, ceiling, g) {
    if (!(first > 0) || !(ceiling > 0)) return Infinity;
    if (!isFinite(ceiling)) return undone(bits, first, g);
    const at = meets(first, ceiling, g);
    if (g <= -STILL) {
      const held = at > 0 ? ceiling * at : 0;
      return bits <= held ? bits / ceiling : at + undone(bits - held, Math.min(first, ceiling), g);
    }
    const free = isFinite(at) ? first * stretched(at, g) : Infinity;
    return bits <= free ? undone(bits, first, g) : at + (bits - free) / ceiling;
  }

  function daysWithin(bits, first, ceiling, g, within) {
    const took = daysFor(bits, first, ceiling, g);
    if (took <= within) return took;
    if (!(g > STILL && ceiling * within >= bits && first > 0)) return Infinity;
    let low = 0, high = 60 / g;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (total(within, first * Math.exp(g * middle), ceiling, g) >= bits) high = middle;
      else low = middle;
    }
    return high + daysFor(bits, first * Math.exp(g * high), ceiling, g);
  }

  function ground(v) {
    const inside = v["zones.internal_share"] * (1 - v["zones.internal_escapes"]);
    const written = v["traffic.tokens"] * v["traffic.output_share"] / v["traffic.drafts"];
    const tokens = written * (1 - v["traffic.reasoning_inside"]) * (1 - inside);
    const honest = tokens * v["link.bits_per_token"];
    const g = Math.log(v["traffic.growth"]) / YEAR;
    const fixed = v["link.cap"] !== undefined;
    const least = honest * Math.min(1, Math.exp(g * v["model.lifetime"]));
    const room = fixed ? Math.max(v["link.cap"] / Math.max(least, 1e-300) - 1, 0) : v["link.headroom"];
    const packed = v["attacker.lossless_compression"] * v["attacker.lossy_compression"];
    return {
      loot: 8 * v["model.parameters"] * v["model.bytes_per_parameter"] / packed,
      tokens: tokens * v["attacker.share_of_traffic"],
      cap: fixed ? v["link.cap"] : honest * (1 + room),
      honest, room, g, fixed,
    };
  }

  function tokensToAlarm(v, duty) {
    const honest = v["verification.honest_flags"];
    const flagged = duty * v["verification.detection_power"];
    if (!(flagged > 0)) return Infinity;
    const seen = honest + (1 - honest) * flagged;
    const rest = seen < 1 ? (1 - seen) * Math.log((1 - seen) / (1 - honest)) : 0;
    const gain = seen * Math.log(seen / honest) + rest;
    const slow = gain > 0 ? -Math.log(v["verification.false_alarms"]) / gain : Infinity;
    return Math.max(1 / flagged, slow);
  }

  function routes(v, on, duties) {
    const share = v["attacker.share_of_traffic"];
    const ceiling = on.fixed ? share * on.cap : Infinity;
    const follows = on.fixed ? Infinity : share * on.cap;
    const raw = v["link.raw_bits"], residual = v["verification.residual"];
    const hidden = (name, duty, bits, aToken) => ({
      name, duty, first: Math.min(follows, on.tokens * bits), ceiling, g: on.g, aToken, aDay: 0,
    });
    const all = [hidden("quiet", 0, raw * residual, 0)];
    const dearer = Math.max(raw - v["link.bits_per_token"], 0);
    const room = (on.room + v["link.unnoticed_failures"]) * v["link.bits_per_token"];
    for (const duty of duties) {
      if (duty * dearer > room) break;
      const bits = raw * (residual + (1 - residual) * duty);
      all.push(hidden("duty " + Number(duty.toPrecision(2)), duty, bits,
        v["verification.audit_rate"] / tokensToAlarm(v, duty)));
    }
    const answer = v["traffic.answer_tokens"];
    all.push(hidden("failing", 0, Math.log2(answer + 1) / answer * v["link.unnoticed_failures"], 0));
    all.push({
      name: "thief", duty: 0, first: share * on.cap, ceiling: Infinity, g: on.fixed ? 0 : on.g,
      aToken: 0, aDay: v["link.unnoticed_failures"] < 1 ? 1 / v["response.notice"] : 0,
    });
    return all;
  }

  function reckon(v, on, route) {
    const there = daysFor(on.loot, route.first, route.ceiling, route.g);
    if (!isFinite(there)) return { ...route, there, caught: 0, present: 1, days: Infinity };
    const tokens = total(there, on.tokens, Infinity, on.g);
    const caught = (route.aToken > 0 ? route.aToken * tokens : 0) + route.aDay * there;
    const present = there / (there + caught * v["attacker.return"]);
    const rotation = v["model.rotation"];
    const first = route.first * present, ceiling = route.ceiling * present;
    const days = rotation === undefined
      ? daysFor(on.loot, first, ceiling, route.g)
      : daysWithin(on.loot, first, ceiling, route.g, rotation);
    return { ...route, there, caught, present, days };
  }

  function binding(v, on, best) {
    if (!isFinite(best.days)) return BINDING[6];
    if (best.name === "quiet") {
      const free = on.tokens * v["link.raw_bits"] * v["verification.residual"];
      if (free > v["attacker.share_of_traffic"] * on.cap) return BINDING[0];
      return BINDING[v["verification.residual"] < 1 ? 1 : 2];
    }
    if (best.name === "failing") return BINDING[3];
    if (best.caught * v["attacker.return"] > best.there) return BINDING[4];
    return BINDING[best.duty > 0 ? 5 : 0];
  }

  function answer(v, duties) {
    const on = ground(v);
    const rows = routes(v, on, duties).map((route) => reckon(v, on, route));
    const best = rows.reduce((held, row) => row.days < held.days ? row : held);
    const bits = total(v["model.lifetime"], best.first * best.present, best.ceiling * best.present, best.g);
    return { days: best.days, strategy: best.name, binds: binding(v, on, best), copies: bits / on.loot, rows, on };
  }

  return { answer, total, daysFor, daysWithin };
})();
if (typeof module !== "undefined") module.exports = tidegate;
