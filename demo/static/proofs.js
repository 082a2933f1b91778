/* The proofs: each runs real requests against the two sides, and shows what came out.

   python -m demo
   curl http://127.0.0.1:8888/static/proofs.js
*/
"use strict";

const CLICKS = 50;
// Seconds after which the slow request has its session. Longer on a second try, for a
// machine that is busy.
const SLOW_BEGINS = [0.4, 0.9, 1.5];
const OUTAGE_LONGEST = 25;
const ENDING_SECONDS = 6;
const SIDES = { library: "This library", naive: "Get–modify–set" };

const seconds = (count) => new Promise((done) => setTimeout(done, 1000 * count));
const sides = (proof) =>
  Object.keys(SIDES).filter((side) => !("off" in sideOf(proof, side).dataset));
const sideOf = (proof, side) => document.getElementById(`${proof}-${side}`);
const tell = (id, text) => (document.getElementById(id).textContent = text);

/** POST to one side; `action` collects its trace. */
function act(form, side, verb, action) {
  return post(form, {}, { url: `/proof/${side}/${verb}`, json: true, action });
}

/** Ask one side who its visitor is; the answer may be an error. */
async function visitor(side, action) {
  const began = performance.now();
  const headers = action ? { "X-Demo-Action": action } : {};
  try {
    const answer = await fetch(`/proof/${side}/visitor`, { headers });
    const said = await answer.json();
    return { status: answer.status, ms: performance.now() - began, ...said };
  } catch {
    return { status: 0, ms: performance.now() - began };
  }
}

async function begun(form, side, action) {
  const answer = await act(form, side, "begin", action);
  if (!answer.ok) throw new Error(`${side}: ${answer.status}`);
}

function setBig(proof, side, text, kind) {
  const big = sideOf(proof, side).querySelector(".big");
  if (proof === "clicks") big.firstChild.textContent = `${text} `;
  else big.textContent = text;
  big.className = `big ${kind ?? ""}`;
}

function drawDots(side, count) {
  const dots = sideOf("clicks", side).querySelector(".dots");
  if (!dots.children.length) {
    dots.append(...Array.from({ length: CLICKS }, () => element("i")));
  }
  [...dots.children].forEach((dot, at) => dot.classList.toggle("on", at < count));
}

// Fifty clicks at once.

async function clicks(form) {
  const counted = {};
  const lines = [];
  const sums = [];
  for (const side of sides("clicks")) {
    setBig("clicks", side, "0");
    drawDots(side, 0);
  }
  tell("clicks-result", "");
  document.getElementById("clicks-strip").replaceChildren();
  for (const side of sides("clicks")) {
    await begun(form, side);
    const action = newAction();
    let seen = 0;
    const answers = await Promise.all(
      Array.from({ length: CLICKS }, async () => {
        const answer = await act(form, side, "click", action);
        if (!answer.ok) return null;
        const { clicks, process } = await answer.json();
        seen = Math.max(seen, clicks);
        setBig("clicks", side, seen);
        drawDots(side, seen);
        return process;
      }),
    );
    const failed = answers.filter((process) => process === null).length;
    counted[side] = (await visitor(side)).clicks;
    setBig("clicks", side, counted[side], counted[side] === CLICKS ? "good" : "bad");
    drawDots(side, counted[side]);
    const requests = await traces(action, CLICKS);
    const longest = requests.reduce(
      (most, each) => (most && most.operations.length >= each.operations.length ? most : each),
      null,
    );
    lines.push({ label: `${SIDES[side]}, one of the 50 requests`, request: longest });
    sums.push(sumUp(side, requests, answers, failed));
  }
  const said = sides("clicks").map((side) => `${SIDES[side]}: ${counted[side]} of ${CLICKS}`);
  tell("clicks-result", `${said.join(". ")}.`);
  showStrip("clicks-strip", lines, ...sums);
}

function sumUp(side, requests, answers, failed) {
  const counts = new Map();
  for (const { kind, outcome } of requests.flatMap((request) => request.operations)) {
    const name = `${kind} ${outcome}`.trim();
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const list = [...counts].map(([name, count]) => `${count} × ${name}`).join(", ");
  const processes = new Set(answers.filter(Boolean)).size;
  const by = `served by ${processes} process${processes === 1 ? "" : "es"}`;
  const wrong = failed ? `, ${failed} failed` : "";
  return `${SIDES[side]}: ${requests.length} requests, ${by}${wrong}: ${list}.`;
}

// Log out while a slow request runs.

/** One side's logout, `wait` seconds after its slow request was sent. */
async function overtake(form, side, wait) {
  await begun(form, side);
  const [slow, out, after] = [newAction(), newAction(), newAction()];
  const slowAnswer = act(form, side, "slow", slow);
  setBig("logout", side, "slow request runs");
  await seconds(wait);
  if (!(await act(form, side, "logout", out)).ok) throw new Error("logout");
  setBig("logout", side, "logged out");
  const { name } = await (await slowAnswer).json();
  const isOut = (await visitor(side, after)).name === null;
  return { isEarly: name !== null, isOut, actions: [slow, out, after] };
}

async function logout(form) {
  const stays = {};
  const lines = [];
  for (const side of sides("logout")) setBig("logout", side, "…");
  tell("logout-result", "");
  document.getElementById("logout-strip").replaceChildren();
  await Promise.all(
    sides("logout").map(async (side) => {
      let tried;
      for (const wait of SLOW_BEGINS) {
        tried = await overtake(form, side, wait);
        // A slow request that came after the logout shows nothing.
        if (tried.isEarly) break;
      }
      if (!tried.isEarly) throw new Error("slow");
      const [slow, out, after] = tried.actions;
      stays[side] = tried.isOut;
      setBig("logout", side, stays[side] ? "stays out" : "comes back", stays[side] ? "good" : "bad");
      const named = [
        [slow, "the slow request"],
        [out, "the logout meanwhile"],
        [after, "the next request"],
      ];
      for (const [action, label] of named) {
        const [request] = await traces(action, 1);
        lines.push({ side, label: `${SIDES[side]}: ${label}`, request });
      }
    }),
  );
  const said = sides("logout").map(
    (side) => `${SIDES[side]}: Ada ${stays[side] ? "stays logged out" : "is logged in again"}`,
  );
  tell("logout-result", `${said.join(". ")}.`);
  const order = Object.keys(SIDES);
  lines.sort((a, b) => order.indexOf(a.side) - order.indexOf(b.side));
  showStrip("logout-strip", lines);
}

// Take memcached away; end a process.

function drawPrint({ letters, hue, squares }) {
  const space = "http://www.w3.org/2000/svg";
  const make = (name, attributes) => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const svg = make("svg", {
    class: `print hue-${hue}`,
    viewBox: "0 0 5 5",
    width: 24,
    height: 24,
    "aria-hidden": "true",
  });
  for (const [x, y] of squares) svg.append(make("rect", { x, y, width: 1, height: 1 }));
  const code = element("code", { textContent: letters });
  return element("span", { className: "fingerprint" }, svg, " ", code);
}

/** Ask every `pause` seconds until `done` says so; return all answers. */
async function watch(pause, done) {
  const timeline = document.getElementById("faults-timeline");
  const began = performance.now();
  const all = [];
  timeline.replaceChildren();
  for (;;) {
    const action = newAction();
    const now = await visitor("library", action);
    now.at = (performance.now() - began) / 1000;
    now.action = action;
    all.push(now);
    const last = all.at(-2);
    const text = now.status === 200 ? `${now.process}` : `${now.status || "no answer"}`;
    const item = element("li", { className: now.status === 200 ? "good" : "bad" }, text);
    item.title = `after ${now.at.toFixed(1)} s, in ${now.ms.toFixed(0)} ms`;
    // One item for each change, and how often it was so.
    if (last?.status === now.status && last?.process === now.process) {
      const item = timeline.lastElementChild;
      item.dataset.count = Number(item.dataset.count ?? 1) + 1;
      item.querySelector("small")?.remove();
      item.append(element("small", { textContent: ` × ${item.dataset.count}` }));
    } else timeline.append(item);
    if (done(all)) return all;
    await seconds(pause);
  }
}

function same(before, after) {
  return (
    after.status === 200 &&
    before.name === after.name &&
    before.cart === after.cart &&
    before.fingerprint.letters === after.fingerprint.letters
  );
}

async function fault(form, url, doing, run, told) {
  tell("faults-result", "");
  document.getElementById("faults-timeline").replaceChildren();
  document.getElementById("faults-strip").replaceChildren();
  await begun(form, "library");
  const first = newAction();
  const before = { ...(await visitor("library", first)), action: first };
  const answer = await post(form, {}, { url, json: true });
  const asked = await answer.json();
  if (!answer.ok) return tell("faults-result", asked.error);
  tell("faults-result", doing(asked));
  const all = await run(before, asked);
  const after = all.at(-1);
  const place = document.getElementById("faults-result");
  if (same(before, after)) {
    place.replaceChildren(
      `${told(all, asked)} The same visitor: ${after.name}, logged in, ${after.cart} things ` +
        "in the cart, the session ",
      drawPrint(after.fingerprint),
      " as before.",
    );
  } else {
    place.textContent = `${told(all, asked)} The visitor is not the same as before.`;
  }
  const failed = all.find((each) => each.status !== 200);
  const lines = [
    [before, "before"],
    [failed, "meanwhile"],
    [after, "afterwards"],
  ];
  const shown = [];
  for (const [each, label] of lines) {
    if (!each) continue;
    const [request] = await traces(each.action, 1);
    const who = each.process ? `, process ${each.process}` : "";
    shown.push({ label: `${label}${who}`, request });
  }
  showStrip("faults-strip", shown);
  await refresh();
}

function outage(form) {
  const doing = () => "memcached does not answer for ten seconds. Watch, or shop meanwhile.";
  const run = (before) =>
    watch(1, (all) => {
      const last = all.at(-1);
      const hasFailed = all.some((each) => each.status === 503);
      return (hasFailed && last.status === 200) || last.at > OUTAGE_LONGEST;
    });
  const told = (all) => {
    const failures = all.filter((each) => each.status === 503);
    const slowest = Math.max(...failures.map((each) => each.ms)) / 1000;
    return failures.length
      ? `${failures.length} requests got a 503, the slowest after ${slowest.toFixed(1)} s.`
      : "No request failed.";
  };
  return fault(form, "/proof/pause", doing, run, told);
}

function ending(form) {
  const doing = ({ process }) => `Process ${process} is being killed.`;
  const run = (before, asked) =>
    watch(0.25, (all) => {
      const last = all.at(-1);
      const isOther = last.status === 200 && last.process !== asked.process;
      return (isOther && last.at > 2) || last.at > ENDING_SECONDS;
    });
  const told = (all, asked) =>
    `Process ${asked.process} was killed, and process ${all.at(-1).process} goes on. ` +
    "A new one starts in its place.";
  return fault(form, "/proof/end-process", doing, run, told);
}

const proofs = { clicks, logout, outage, ending };

document.addEventListener("submit", (event) => {
  const name = event.target.dataset.proof;
  if (!name) return;
  event.preventDefault();
  const place = ["outage", "ending"].includes(name) ? "faults" : name;
  once(place, event.submitter, async () => {
    try {
      await proofs[name](event.target);
    } catch {
      tell(`${place}-result`, "A request failed, so this shows nothing. Try again in a moment.");
    }
  });
});

for (const side of document.querySelectorAll(".sides > [data-off]")) {
  side.querySelector(".big").textContent = "not shown";
  side.append(
    element("p", {
      className: "note",
      textContent: "This counterexample only speaks to one plain memcached.",
    }),
  );
}
for (const button of document.querySelectorAll("[data-script]")) button.disabled = false;
