/* What JavaScript adds to the shop: no reloads, a live countdown, clicks in parallel,
   and what the store was asked. Every form of the shop works without it.

   python -m demo
   curl http://127.0.0.1:8888/static/shop.js
*/
"use strict";

const PARTS = ["header", "process", "warning-place", "flashes", "account", "cart", "session"];
const LIVE = ["flashes"];

/** Put the parts of a fetched page into this one, and keep the focus. */
function show(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const focused = document.activeElement;
  const place = focused?.closest("[id]:not(button):not(a):not(input)")?.id;
  const parts = PARTS.filter((id) => document.getElementById(id));
  const whole = parts.some((id) => !page.getElementById(id));
  const strip = document.getElementById("shop-strip");
  const change = document.getElementById("fingerprint-change");
  for (const id of whole ? ["header", "process", "main"] : parts) {
    const old = document.getElementById(id);
    const now = page.getElementById(id);
    // A live region must stay the same element, or its news is not read out.
    if (LIVE.includes(id)) old.replaceChildren(...now.childNodes);
    else old?.replaceWith(now);
  }
  if (strip) document.getElementById("shop-strip")?.replaceWith(strip);
  if (change) document.getElementById("fingerprint-change")?.replaceWith(change);
  document.title = page.title;
  if (focused && !focused.isConnected) refocus(focused.id, place);
  tick();
  document.dispatchEvent(new Event("shown"));
}

/** Focus what took the place of the element that had the focus. */
function refocus(id, place) {
  const candidates = [
    id && document.getElementById(id),
    place && document.querySelector(`#${CSS.escape(place)} h2[tabindex]`),
    document.getElementById("main"),
  ];
  candidates.find(Boolean)?.focus({ preventScroll: true });
}

async function refresh() {
  const answer = await fetch("/");
  if (answer.ok) show(await answer.text());
}

/** A name for what the visitor just did, under which its traces are kept. */
function newAction() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function post(form, fields, options = {}) {
  const body = new URLSearchParams(new FormData(form));
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  const headers = {};
  if (options.json) headers.Accept = "application/json";
  if (options.action) headers["X-Demo-Action"] = options.action;
  const url = options.url ?? form.getAttribute("action");
  return fetch(url, { method: "POST", body, headers, keepalive: true });
}

/** What the store was asked in an action of `count` requests, in order. */
async function traces(action, count) {
  try {
    const answer = await fetch(`/proof/trace?action=${action}&count=${count}`);
    return answer.ok ? (await answer.json()).requests : [];
  } catch {
    return [];
  }
}

function element(tag, options = {}, ...children) {
  const made = Object.assign(document.createElement(tag), options);
  made.append(...children);
  return made;
}

/** One line of a strip: what the store was asked for one request. */
function stripLine({ label, request }) {
  const steps = request.operations.map(({ kind, outcome, ms }) =>
    element(
      "li",
      { className: ["hit", "stored", ""].includes(outcome) ? "" : "other" },
      element("b", { textContent: kind }),
      ` ${outcome.replace("_", " ")} `,
      element("span", { textContent: `${ms.toFixed(1)} ms` }),
    ),
  );
  const responded = `then answered ${request.status}`;
  const last = element("li", { className: "responded" }, responded, " ");
  last.append(element("span", { textContent: `${request.ms.toFixed(1)} ms` }));
  return element(
    "div",
    { className: "strip-line" },
    element("p", { textContent: label ?? request.request }),
    element("ol", {}, ...steps, last),
  );
}

/** Show a strip: `lines` are requests with labels, `sums` sentences. */
function showStrip(id, lines, ...sums) {
  const strip = document.getElementById(id);
  const shown = lines.filter(({ request }) => request).map(stripLine);
  if (!strip || (!shown.length && !sums.length)) return strip?.replaceChildren();
  strip.replaceChildren(
    element("h3", { textContent: "What the store was asked" }),
    ...shown,
    ...sums.map((text) => element("p", { className: "note", textContent: text })),
  );
}

async function stripOf(action, count) {
  const requests = await traces(action, count);
  showStrip("shop-strip", requests.map((request) => ({ request })));
}

function say(text, category) {
  const message = element("p", { className: `flash ${category}`, textContent: text });
  document.getElementById("flashes")?.replaceChildren(message);
}

/** Say what an error page says, without leaving this one. */
async function sayError(answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const problem = page.querySelector(".problem");
  const texts = problem
    ? [problem]
    : page.querySelectorAll("#error-title, #error-title + p");
  const said = [...texts].map((each) => each.textContent.trim()).join(". ");
  // Another request has ended the session: show the page as it is without it.
  if (answer.status === 409) await refresh();
  say(`${answer.status}: ${said || answer.statusText}`, "error");
}

/** One click, one request; the answer is the next page. */
async function inline(form, button) {
  const fields = button?.name ? { [button.name]: button.value } : {};
  const before = document.querySelector("#session .fingerprint")?.cloneNode(true);
  const action = newAction();
  const answer = await post(form, fields, { action });
  if (answer.ok) {
    show(await answer.text());
    history.replaceState(null, "", "/");
    showChange(before);
  } else {
    await sayError(answer);
  }
  await stripOf(action, answer.redirected ? 2 : 1);
}

/** Show the id's fingerprints before and after, if it changed. */
function showChange(before) {
  const place = document.getElementById("fingerprint-change");
  const after = document.querySelector("#session .fingerprint")?.cloneNode(true);
  if (!place || before?.dataset.letters === after?.dataset.letters) return;
  place.replaceChildren();
  if (!after) return;
  if (before) place.append("The fingerprint of your session’s id was ", before, " and is now ");
  else place.append("Your session has begun. The fingerprint of its id is ");
  place.append(after, ".");
}

/** One request for each product, all at the same moment. */
async function each(form) {
  const skus = [...document.querySelectorAll('.products button[name="sku"]')];
  const action = newAction();
  const add = (button) => post(form, { sku: button.value }, { json: true, action });
  const answers = [];
  const waiting = [...skus];
  // Without a cookie each request would begin a session of its own, and the browser
  // keeps one cookie: so the first goes ahead and brings it.
  const isNew = !document.querySelector("#session [data-exists]");
  if (isNew) answers.push(await add(waiting.shift()));
  answers.push(...(await Promise.all(waiting.map(add))));
  const failed = answers.filter((answer) => !answer.ok).length;
  await refresh();
  const how = isNew
    ? `1 request began your session, then ${waiting.length} ran at the same time.`
    : `${answers.length} requests ran at the same time.`;
  if (failed) say(`${failed} of ${answers.length} requests failed.`, "error");
  else say(`${how} All ${answers.length} are in your cart.`, "success");
  await stripOf(action, answers.length);
}

/** A request that takes its time, while the page stays usable. */
async function background(form, button) {
  say("The slow request is under way. Change your cart meanwhile.", "info");
  const action = newAction();
  const answer = await post(form, {}, { json: true, action });
  const problem = answer.ok ? null : (await answer.json()).detail;
  await refresh();
  const isThere = document.querySelector("#session [data-exists]");
  if (problem) say(problem, "error");
  else if (isThere) say("The slow request is done, and all your changes are kept.", "success");
  else say("The session was ended meanwhile. The slow request changed nothing.", "info");
  await stripOf(action, 1);
}

const running = new Set();

/** Run what a button starts, once at a time; the button keeps the focus. */
async function once(name, button, run) {
  if (running.has(name)) return;
  running.add(name);
  button?.setAttribute("aria-disabled", "true");
  try {
    await run();
  } catch {
    say("The shop does not answer. Is the demo still running?", "error");
  } finally {
    running.delete(name);
    button?.removeAttribute("aria-disabled");
    const now = button?.id && document.getElementById(button.id);
    if (now) now.removeAttribute("aria-disabled");
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const handle = [
    ["inline", inline],
    ["each", each],
    ["background", background],
  ].find(([name]) => name in form.dataset)?.[1];
  if (!handle) return;
  event.preventDefault();
  const button = event.submitter;
  const name = handle === background ? "background" : "shop";
  once(name, button, () => handle(form, button));
});

// Another window may have logged this one out, or be a new device.
addEventListener("focus", () => {
  const listed = document.querySelector(".devices");
  if (listed && !running.size) refresh().catch(() => {});
});

// A page that comes back from the browser's memory may be older than a log-out.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

function duration(seconds) {
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [Math.floor(seconds) % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "now";
  return parts.slice(first).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** Count down to the session's end, and show times in the visitor's own zone. */
function tick() {
  for (const time of document.querySelectorAll("time[data-countdown]")) {
    const left = (new Date(time.dateTime) - Date.now()) / 1000;
    time.textContent = left > 0 ? `in ${duration(left)}` : "ended";
    time.title = new Date(time.dateTime).toLocaleString();
  }
  for (const time of document.querySelectorAll("time[data-clock]")) {
    time.textContent = new Date(time.dateTime).toLocaleString(undefined, {
      dateStyle: "medium",
      timeStyle: "short",
    });
  }
}

tick();
setInterval(tick, 1000);
