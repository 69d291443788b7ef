// Requests for weights: what is asked exactly, and an approver's verdict by hardware key.

import { ask } from "/static/ask.js";
import { facts, lasts, make, when } from "/static/draw.js";
import { fill } from "/static/parts.js";

export function show(part, person, open) {
  const place = document.querySelector("#grants .body");
  if (part.is === "missing") {
    fill(place, part, (gone) => [make("p", { class: "missing" }, gone.wanted ? `Not known: ${gone.reason}.` : "Not set up.")]);
    return;
  }
  fill(place, part, (grants) => [
    make("p", { class: "big" }, String(grants.waiting.length), " ", make("small", {}, "wait for approval")),
    ...grants.waiting.map((one) => waiting(one, person, open)),
    make("h3", {}, `${grants.leases.length} leases run`),
    facts(grants.leases.map((one) => [`${one.who} on ${one.host}`, `until ${when(one.until)}`])),
  ]);
}

function waiting(one, person, open) {
  const teams = Object.entries(one.need).map(([team, need]) => `${team} ${one.have[team] || 0} of ${need}`).join(", ");
  const label = `Look at ${one.who}'s request`;
  return make("div", { class: "request" },
    make("h3", { class: one.break_glass ? "bad" : "" }, `${one.break_glass ? "BREAK GLASS: " : ""}${one.who} asks for ${one.shards}`),
    make("p", {}, one.why),
    make("p", { class: "hint" }, `${teams}; for ${lasts(one.lasts_s)}; asked ${when(one.asked)}`),
    person.role === "approver" ? make("button", { type: "button", on: () => look(one.id, person, open) }, label) : null,
  );
}

async function look(id, person, open) {
  const problem = make("p", { role: "alert", class: "bad" });
  try {
    const exact = await ask(`/api/grants/${id}`);
    const request = JSON.parse(exact.request);
    const mine = Object.keys(exact.teams).filter((team) => exact.teams[team].includes(person.name) && exact.missing[team]);
    const reason = make("input", { maxLength: 256 });
    const judge = (verdict, team) => async () => {
      problem.textContent = "";
      try {
        const assertion = await signed(verdict, exact, person);
        const after = await ask(`/api/grants/${id}/verdict`, { verdict, team, reason: reason.value, assertion });
        problem.className = "good";
        problem.textContent = `Done: the request is ${after.status}.`;
      } catch (error) {
        problem.className = "bad";
        problem.textContent = error.message;
      }
    };
    open(`${request.requester} asks for ${request.model}`, [
      make("p", {}, request.why),
      facts([
        ["shards", request.shards.join(", ")], ["host", request.host], ["for", lasts(request.seconds)],
        ["manifest", request.manifest], ["reference values", request.reference],
        ["break glass", request.break_glass ? "YES" : "no", request.break_glass ? "bad" : ""],
      ]),
      make("p", { class: "hint" }, "Your key signs the hash of exactly these bytes:"),
      make("pre", { tabIndex: 0 }, exact.request),
      mine.length ? make("label", {}, "Reason, for a denial", reason) : make("p", { class: "hint" }, "No team of yours is still asked."),
      make("p", { class: "row" }, ...mine.flatMap((team) => [
        make("button", { type: "button", class: "main", on: judge("approve", team) }, `Approve for ${team}`),
        make("button", { type: "button", on: judge("deny", team) }, `Deny for ${team}`),
      ])),
      problem,
    ]);
  } catch (error) {
    problem.textContent = error.message;
    open("The request cannot be shown", [problem]);
  }
}

// The challenge is worked out here, from the bytes that were shown (spec/grants.md).
async function signed(verdict, exact, person) {
  const text = new TextEncoder();
  const request = await hash(text.encode("tidegate grant request v1\n"), text.encode(exact.request));
  const challenge = await hash(text.encode(`tidegate grant ${verdict} v1\n`), request);
  const allowed = (exact.keys[person.name] || []).map((id) => ({ type: "public-key", id: bytes(id) }));
  if (!allowed.length) throw new Error("The broker's policy has no hardware key of yours.");
  const given = await navigator.credentials.get({
    publicKey: { challenge, rpId: exact.rp, allowCredentials: allowed, userVerification: "required", timeout: 120000 },
  });
  return {
    credential: base64(given.rawId),
    authenticator: base64(given.response.authenticatorData),
    client: base64(given.response.clientDataJSON),
    signature: base64(given.response.signature),
  };
}

async function hash(...pieces) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(pieces).arrayBuffer()));
}

function bytes(encoded) {
  return Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
}

function base64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}
