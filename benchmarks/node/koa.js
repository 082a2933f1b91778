"use strict";

// koa: bare, and with koa-generic-session over koa-store-memcached.
//
//     node koa.js bare|all PORT MEMCACHED

const Koa = require("koa");
const { BARE, SECRET, firstData, shown } = require("./contents");

const [kind, port, memcached] = process.argv.slice(2);
const app = new Koa();

let pages;

if (kind === "bare") {
  const answer = (ctx) => {
    ctx.body = BARE;
  };
  pages = { "/make": answer, "/read": answer, "/write": answer };
} else {
  const session = require("koa-generic-session");
  const MemcachedStore = require("koa-store-memcached");
  app.keys = [SECRET];
  app.use(session({ store: new MemcachedStore(memcached) }));
  pages = {
    "/make": (ctx) => {
      Object.assign(ctx.session, firstData(Number(ctx.query.user)));
      ctx.body = "";
    },
    "/read": (ctx) => {
      ctx.body = shown(ctx.session);
    },
    "/write": (ctx) => {
      ctx.session.n += 1;
      ctx.body = shown(ctx.session);
    },
  };
}

app.use(async (ctx) => pages[ctx.path](ctx));
app.listen(Number(port), "127.0.0.1");
