"use strict";

// Messages for the next page, which Tornado's session.flash() and flashes() share.
// Copy this file into your koa application.

/** Keep `message` for whichever page comes next. */
exports.flash = (session, message, category = "info") => {
  session.mcsession ??= {};
  session.mcsession.flashes ??= [];
  session.mcsession.flashes.push([category, message]);
};

/** Return and remove the messages, oldest first: `[[category, message], ...]`. */
exports.flashes = (session) => {
  const found = session.mcsession?.flashes ?? [];
  if (found.length) session.mcsession.flashes = [];
  return found.map(([category, message]) => [category, message]);
};
