// Requests to the console's own API.

let csrf = "";

export function trust(token) {
  csrf = token;
}

export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json", "x-csrf-token": csrf },
  };
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  if (answer.status === 401 && path !== "/api/login") {
    location.assign("/login");
  }
  const said = await answer.json().catch(() => ({ error: "the console's answer cannot be read" }));
  if (!answer.ok) {
    throw new Error(said.error || `the console answers ${answer.status}`);
  }
  return said;
}
