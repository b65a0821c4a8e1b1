"use strict";

const base = document.body.dataset.base;
const live = document.getElementById("live");
const state = document.getElementById("state");
const ask = document.getElementById("ask");
const part = (id) => document.getElementById(id);

/* -- Airflow's theme: this page stands in a frame of its UI, of the same origin. */

function follow(root) {
  const apply = () => {
    document.documentElement.dataset.theme = root.classList.contains("dark") ? "dark" : "light";
  };
  apply();
  new MutationObserver(apply).observe(root, { attributes: true, attributeFilter: ["class"] });
}

if (window.parent !== window) {
  try {
    follow(window.parent.document.documentElement);
  } catch {
    /* In a frame of somebody else's: the system's colours will do. */
  }
}

/* -- Asking the server. */

async function send(method, path, body) {
  const headers = { "X-Requested-With": "nightbatch", Accept: "application/json, text/html" };
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (answer.ok) return (answer.headers.get("Content-Type") ?? "").includes("json") ? JSON.parse(text) : text;
  let told = `The server answered ${answer.status}.`;
  try {
    const problem = JSON.parse(text);
    told = [problem.detail, ...(problem.errors ?? []).map((one) => `${one.where}: ${one.what}`)].join(" ");
  } catch {
    /* Not in our words. */
  }
  throw new Error(told);
}

/* -- What happens, as it happens. */

const SOON = 4_000;
const LATER = 30_000;
const STARTS = 120_000; /* a run may take so long to be planned */
const READ = 15_000;
let shown = "";
let timer = 0;
let awaited = 0;
let silence = 0;

const STALE = "Not up to date: ";

async function refresh() {
  clearTimeout(timer);
  let wait = LATER;
  try {
    const html = await send("GET", "/dashboard/live");
    if (html !== shown && !ask.open && !selecting()) replace(html);
    const moves = live.querySelector(".batch.planned, .batch.uploaded, .batch.submitting, .batch.submitted");
    wait = moves || Date.now() < awaited ? SOON : LATER;
    if (state.textContent.startsWith(STALE)) tell("");
  } catch (error) {
    tell(STALE + error.message);
  }
  timer = setTimeout(refresh, document.hidden ? LATER : wait);
}

function selecting() {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && live.contains(selection.anchorNode);
}

function replace(html) {
  const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
  live.innerHTML = html; /* our own server's, escaped there */
  shown = html;
  if (focused) part(focused)?.focus();
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());
timer = setTimeout(refresh, SOON);

/* Stays until it could be read; that the page is not up to date is told until it is again. */
function tell(text) {
  clearTimeout(silence);
  state.textContent = text;
  if (text && !text.startsWith(STALE)) silence = setTimeout(tell, READ, "");
}

/* -- Decisions: the price first, then the reason, then the deed. */

let deed = null;

async function begin(batch, choice) {
  const path = ["cancel", "retry"].includes(choice) ? choice : "release";
  deed = { path: `/batches/${batch}/${path}`, body: path === "release" ? { choice } : {} };
  part("ask-title").textContent = `${choice[0].toUpperCase()}${choice.slice(1)} batch ${batch}`;
  part("ask-price").textContent = "Asking for the price…";
  part("ask-error").textContent = part("why").value = part("found").value = "";
  part("ask-yes").disabled = part("ask-why").hidden = true;
  part("ask-found").hidden = true;
  ask.showModal();
  try {
    part("ask-price").textContent = (await send("POST", deed.path, { ...deed.body, dry_run: true })).message;
  } catch (error) {
    part("ask-price").textContent = error.message;
    return;
  }
  part("ask-yes").disabled = part("ask-why").hidden = false;
  part("ask-found").hidden = choice !== "adopt";
  part(choice === "adopt" ? "found" : "why").focus();
}

async function act() {
  const reason = part("why").value.trim();
  const found = part("found").value.trim();
  if (!reason) return refuse("why", "Say why: whoever looks at the bill will ask.");
  if (!part("ask-found").hidden && !found) return refuse("found", "Name the id that you found.");
  part("ask-yes").disabled = true;
  try {
    const told = await send("POST", deed.path, { ...deed.body, reason, ...(found && { provider_batch_id: found }) });
    ask.close();
    await refresh();
    tell(told.message);
  } catch (error) {
    part("ask-error").textContent = error.message;
    part("ask-yes").disabled = false;
  }
}

function refuse(id, text) {
  part("ask-error").textContent = text;
  part(id).focus();
}

async function once(button, deedOfIt) {
  button.disabled = true;
  try {
    tell(await deedOfIt());
  } catch (error) {
    tell(error.message);
  } finally {
    button.disabled = false;
  }
}

async function acknowledge(id) {
  const told = await send("POST", `/alerts/${id}/acknowledge`);
  await refresh();
  return told.message;
}

async function run() {
  const started = await send("POST", "/process/all");
  awaited = Date.now() + STARTS;
  clearTimeout(timer);
  timer = setTimeout(refresh, SOON);
  return started.paused ? `${started.run_id} waits: the Dag is paused.` : `Started ${started.run_id}.`;
}

async function copy(id) {
  try {
    await navigator.clipboard.writeText(part(id).textContent);
    return "Copied.";
  } catch {
    document.getSelection().selectAllChildren(part(id));
    return "Selected: copy it with your keyboard.";
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { batch, choice, acknowledge: alert, copy: text } = button.dataset;
  if (batch) begin(batch, choice);
  else if (alert) once(button, () => acknowledge(alert));
  else if (text) once(button, () => copy(text));
  else if ("run" in button.dataset) once(button, run);
  else if (button.id === "ask-yes") act();
  else if (button.id === "ask-estimate") {
    once(button, async () => {
      part("estimate").textContent = "Looking through the queue…";
      part("estimate").innerHTML = await send("POST", "/dashboard/estimate");
      return "";
    });
  }
});

ask.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.tagName === "INPUT") {
    event.preventDefault();
    if (!part("ask-yes").disabled) act();
  }
});
