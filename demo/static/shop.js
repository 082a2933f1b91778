/* What JavaScript adds to the shop: no reloads, a live countdown, clicks in parallel.
   Every form works without it.

   python -m demo
   curl http://127.0.0.1:8888/static/shop.js
*/
"use strict";

/** Put the parts of a fetched page into this one, and keep the focus. */
function show(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const focused = document.activeElement?.id;
  const parts = ["header", "process", "flashes", "cart", "session"];
  const whole = parts.some((id) => !page.getElementById(id));
  for (const id of whole ? ["header", "process", "main"] : parts) {
    const old = document.getElementById(id);
    const now = page.getElementById(id);
    // A live region must stay the same element, or its news is not read out.
    if (id === "flashes") old.replaceChildren(...now.childNodes);
    else old?.replaceWith(now);
  }
  document.title = page.title;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  tick();
}

async function refresh() {
  show(await (await fetch("/")).text());
}

function post(form, fields, json) {
  const body = new URLSearchParams(new FormData(form));
  for (const [name, value] of Object.entries(fields)) body.set(name, value);
  const headers = json ? { Accept: "application/json" } : {};
  return fetch(form.action, { method: "POST", body, headers, keepalive: true });
}

function say(text, category) {
  const message = document.createElement("p");
  message.className = `flash ${category}`;
  message.textContent = text;
  document.getElementById("flashes")?.replaceChildren(message);
}

/** One click, one request; the answer is the next page. */
async function inline(form, button) {
  const fields = button?.name ? { [button.name]: button.value } : {};
  show(await (await post(form, fields)).text());
}

/** One request for each product, all at the same moment. */
async function each(form) {
  const buttons = [...document.querySelectorAll('.products button[name="sku"]')];
  const add = (button) => post(form, { sku: button.value }, true);
  const answers = [];
  // Without a cookie each request would begin a session of its own, and the browser
  // keeps one cookie: so the first goes ahead and brings it.
  if (!document.querySelector("#session [data-exists]")) {
    answers.push(await add(buttons.shift()));
  }
  answers.push(...(await Promise.all(buttons.map(add))));
  const failed = answers.filter((answer) => !answer.ok).length;
  await refresh();
  if (failed) say(`${failed} of ${answers.length} requests failed.`, "error");
  else say(`${buttons.length} requests at once, and nothing was lost.`, "success");
}

/** A request that takes its time, while the page stays usable. */
async function background(form, button) {
  say("The slow request is under way. Change your cart meanwhile.", "info");
  button.disabled = true;
  const answer = await post(form, {}, true);
  await refresh();
  const done = "The slow request is done, and all your changes are kept.";
  if (answer.ok) say(done, "success");
  else say((await answer.json()).detail, "error");
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const handle = [
    ["inline", inline],
    ["each", each],
    ["background", background],
  ].find(([name]) => name in form.dataset)?.[1];
  if (!handle) return;
  event.preventDefault();
  try {
    await handle(form, event.submitter);
  } catch {
    say("The shop does not answer. Is the demo still running?", "error");
  }
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
