"use strict";

// A koa application whose session the tests look at and change.
//
//     node koa.js PORT '{"servers": [...], "keys": [...], "session": {...}}'

const Koa = require("koa");
const session = require("koa-generic-session");
const MemcachedStore = require("koa-store-memcached");
const { Gate, bodyOf, pages } = require("./pages");

const [port, options] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const app = new Koa();
app.keys = options.keys;
app.silent = true;
app.use(
  session({ store: new MemcachedStore(options.servers), ...options.session }),
);

const gate = new Gate();

app.use(async (ctx) => {
  const act = pages[ctx.path.slice(1)];
  const given = await bodyOf(ctx.req);
  ctx.body = await act({
    given,
    gate,
    get session() {
      return ctx.session;
    },
    regenerate: () => ctx.regenerateSession(),
    destroy: () => {
      ctx.session = null;
    },
  });
});
app.listen(port, "127.0.0.1");
