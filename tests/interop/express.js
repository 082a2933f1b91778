"use strict";

// An express application whose session the tests look at and change.
//
//     node express.js PORT '{"servers": [...], "keys": [...], "session": {...}}'

const express = require("express");
const session = require("express-session");
const MemcachedStore = require("connect-memcached")(session);
const { Gate, bodyOf, pages } = require("./pages");

const [port, options] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const { prefix, ...more } = options.session;
const app = express();
app.use(
  session({
    secret: options.keys,
    resave: false,
    saveUninitialized: false,
    store: new MemcachedStore({ hosts: options.servers, prefix }),
    ...more,
  }),
);

const gate = new Gate();

// `verb` calls back when it is done.
const done = (request, verb) =>
  new Promise((resolve, reject) => {
    request.session[verb]((error) => (error ? reject(error) : resolve()));
  });

app.use(async (request, response) => {
  const act = pages[request.path.slice(1)];
  const given = await bodyOf(request);
  const shown = await act({
    given,
    gate,
    get session() {
      return request.session;
    },
    regenerate: () => done(request, "regenerate"),
    destroy: () => done(request, "destroy"),
  });
  response.json(shown);
});
// eslint-disable-next-line no-unused-vars
app.use((error, request, response, next) => {
  response.status(500).end();
});
app.listen(port, "127.0.0.1");
