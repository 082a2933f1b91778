/* Warns before the session of a logged-in visitor ends.

   python -m demo
   curl -c jar -b jar http://127.0.0.1:8888/session/status
*/
"use strict";

const AGAIN = 5; // seconds between two looks at the end: another tab may renew
const LONGEST = 3600;

let timer;

/** Ask how long the session lasts, which renews nothing; a POST renews it. */
async function look(options) {
  clearTimeout(timer);
  const warning = document.getElementById("warning");
  if (!warning) return;
  const warn = Number(warning.dataset.warn);
  let wait = AGAIN; // after an error too: an outage has logged nobody out
  try {
    const answer = await fetch(warning.dataset.status, options);
    if (answer.ok) {
      const { seconds_left, logged_in } = await answer.json();
      if (!warning.isConnected) return;
      if (!logged_in) return location.reload();
      warning.querySelector("output").textContent = seconds_left;
      if (seconds_left > warn) {
        warning.close();
        // Browsers cannot wait longer than 24 days, and a laptop may sleep meanwhile.
        wait = Math.min(seconds_left - warn, LONGEST);
      } else if (!warning.open) warning.showModal();
    }
  } catch {
    // The network is away.
  }
  clearTimeout(timer);
  timer = setTimeout(look, wait * 1000);
}

document.addEventListener("submit", (event) => {
  if (!event.target.closest("#warning")) return;
  event.preventDefault();
  look({ method: "POST", body: new URLSearchParams(new FormData(event.target)) });
});
document.addEventListener("visibilitychange", () => document.hidden || look());
// The shop replaces parts of the page: after a login there is a warning, too.
document.addEventListener("shown", () => look());
look();
