"use strict";

// What is in a session, and what a page tells of it: the same on every site.

exports.BARE = "0 0";
exports.SECRET = "a secret of forty-three characters, for all";

exports.firstData = (user) => ({
  user,
  n: 0,
  name: "Ada Lovelace",
  email: "ada.lovelace@example.org",
  seen: 1795345905.25,
  cart: [0, 1, 2, 3].map((n) => ({ item: `notebook, lined, ${n}`, price: 4.5 })),
  address: "12 St James's Square",
  theme: "dark",
  languages: ["en", "fr", "de"],
});

exports.shown = (session) => `${session.user} ${session.n}`;
