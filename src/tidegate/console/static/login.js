import { ask } from "/static/ask.js";

const form = document.getElementById("login");
const problem = document.getElementById("problem");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  const given = new FormData(form);
  try {
    await ask("/api/login", { name: given.get("name"), password: given.get("password") });
    location.assign("/");
  } catch (error) {
    problem.textContent = error.message;
    form.elements.password.value = "";
    form.elements.password.focus();
  }
});
