"use strict";

// The site as it was before the move: a small shop on koa.
//
//     DEMO_KEYS='["secret"]' node site.js PORT HOST:PORT[,HOST:PORT...]

const { readFileSync } = require("fs");
const Koa = require("koa");
const session = require("koa-generic-session");
const MemcachedStore = require("koa-store-memcached");
const { flash, flashes } = require("./flash");

const [port, servers] = process.argv.slice(2);
const LAYOUT = readFileSync(`${__dirname}/layout.html`, "utf8");
const PRODUCTS = ["ink", "paper", "pen"];

const app = new Koa();
app.keys = JSON.parse(process.env.DEMO_KEYS);
app.use(
  session({
    store: new MemcachedStore(servers.split(",")),
    cookie: { sameSite: "lax" },
  }),
);

const SIGNS = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => SIGNS[sign]);

const show = (ctx, name, body) => {
  const parts = {
    by: "Node",
    other: "Python",
    name,
    user: escape(ctx.session.user ?? "nobody"),
    count: Object.values(ctx.session.cart ?? {}).reduce((a, b) => a + b, 0),
    messages: flashes(ctx.session)
      .map(([category, text]) => `<p class="${escape(category)}">${escape(text)}</p>`)
      .join(""),
    body,
  };
  ctx.type = "html";
  ctx.body = LAYOUT.replace(/{(\w+)}/g, (_, part) => parts[part]);
};

const form = async (ctx) => {
  let text = "";
  for await (const chunk of ctx.req) text += chunk;
  return Object.fromEntries(new URLSearchParams(text));
};

const button = (action, word, name = "", value = "") =>
  `<form method="post" action="${action}"><button name="${name}" value="${value}">` +
  `${word}</button></form>`;

const pages = {
  "GET /": (ctx) =>
    show(ctx, "home", PRODUCTS.map((p) => button("/cart", `Add ${p}`, "item", p)).join("")),

  "GET /cart": (ctx) => {
    const lines = Object.entries(ctx.session.cart ?? {});
    const rows = lines.map(([item, n]) => `<li>${n} × ${escape(item)}</li>`).join("");
    const empty = "<p>Your cart is empty.</p>";
    const full = `<ul>${rows}</ul>${button("/cart/empty", "Empty the cart")}`;
    show(ctx, "cart", rows ? full : empty);
  },
  "POST /cart": async (ctx) => {
    const { item } = await form(ctx);
    if (PRODUCTS.includes(item)) {
      const cart = (ctx.session.cart ??= {});
      cart[item] = (cart[item] ?? 0) + 1;
      flash(ctx.session, `Node added ${item}.`);
    }
    ctx.redirect("/cart");
  },
  "POST /cart/empty": (ctx) => {
    delete ctx.session.cart;
    ctx.redirect("/cart");
  },

  "GET /account": (ctx) =>
    show(
      ctx,
      "account",
      ctx.session.user
        ? button("/account/logout", "Log out")
        : '<form method="post" action="/account/login"><input name="user" required ' +
            'aria-label="Name"><button>Log in</button></form>',
    ),
  "POST /account/login": async (ctx) => {
    const user = (await form(ctx)).user?.trim();
    if (!user) ctx.throw(400);
    const { cart } = ctx.session;
    await ctx.regenerateSession(); // a new id for a user who logs in
    if (cart) ctx.session.cart = cart;
    ctx.session.user = user;
    flash(ctx.session, "Node logged you in.");
    ctx.redirect("/account");
  },
  "POST /account/logout": (ctx) => {
    ctx.session = null;
    ctx.redirect("/account");
  },
};

app.use(async (ctx) => {
  const page = pages[`${ctx.method} ${ctx.path}`];
  if (page) await page(ctx);
});
app.listen(Number(port), "127.0.0.1");
