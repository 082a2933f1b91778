"use strict";

// express: bare, and with express-session over connect-memcached.
//
//     node express.js bare|sessions PORT MEMCACHED

const express = require("express");
const { BARE, SECRET, firstData, shown } = require("./contents");

const [kind, port, memcached] = process.argv.slice(2);
const app = express();

if (kind === "bare") {
  for (const path of ["/make", "/read", "/write"]) {
    app.get(path, (req, res) => res.send(BARE));
  }
} else {
  const session = require("express-session");
  const MemcachedStore = require("connect-memcached")(session);
  const store = new MemcachedStore({ hosts: [memcached] });
  const cookie = { maxAge: 86400000 };
  app.use(
    session({ secret: SECRET, store, cookie, resave: false, saveUninitialized: false }),
  );
  app.get("/make", (req, res) => {
    Object.assign(req.session, firstData(Number(req.query.user)));
    res.send("");
  });
  app.get("/read", (req, res) => res.send(shown(req.session)));
  app.get("/write", (req, res) => {
    req.session.n += 1;
    res.send(shown(req.session));
  });
}

app.listen(Number(port), "127.0.0.1");
