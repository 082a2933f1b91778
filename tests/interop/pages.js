"use strict";

// What the pages of both applications do with a session. They return what is shown.

const { flash, flashes } = require("../../demo/koa/flash");

/** The data of a session, without what the libraries keep there. */
const dataOf = (session) => {
  const { cookie, mcsession, ...data } = JSON.parse(JSON.stringify(session));
  return data;
};

/** Lets a request wait until another one opens it. */
class Gate {
  constructor() {
    this.entered = new Promise((resolve) => (this.enter = resolve));
    this.opened = new Promise((resolve) => (this.open = resolve));
  }
}

const pages = {
  read: ({ session }) => dataOf(session),

  // The whole of it, as it is stored.
  whole: ({ session }) => JSON.parse(JSON.stringify(session)),

  change: ({ session, given }) => {
    for (const [key, value] of Object.entries(given)) {
      if (value === null) delete session[key];
      else session[key] = value;
    }
    return dataOf(session);
  },

  // Changes the session, but not before it is told to.
  slowly: async ({ session, given, gate }) => {
    Object.assign(session, given);
    gate.enter();
    await gate.opened;
    return dataOf(session);
  },

  // Only reads it, and ends when it is told to.
  reads: async ({ session, gate }) => {
    const data = dataOf(session);
    gate.enter();
    await gate.opened;
    return data;
  },

  // Wait until a slow request is under way; let it end.
  entered: async ({ gate }) => {
    await gate.entered;
    return {};
  },
  open: ({ gate }) => {
    gate.open();
    return {};
  },

  age: ({ session, given }) => {
    session.cookie.maxAge = given.maxAge;
    return dataOf(session);
  },

  // A new id, and with it what the user has.
  login: async (request) => {
    const data = dataOf(request.session);
    await request.regenerate();
    Object.assign(request.session, data, { user: request.given.user });
    return dataOf(request.session);
  },

  // As `login`, by a program that copies whatever it finds.
  copied: async (request) => {
    const { cookie, ...all } = JSON.parse(JSON.stringify(request.session));
    await request.regenerate();
    Object.assign(request.session, all);
    return dataOf(request.session);
  },

  logout: async ({ destroy }) => {
    await destroy();
    return {};
  },

  // Messages for the next page, which Python keeps beside the data.
  flash: ({ session, given }) => {
    flash(session, given.message, given.category);
    return {};
  },

  flashes: ({ session }) => ({ flashes: flashes(session) }),
};

/** What a request carries as JSON; an empty object if it carries nothing. */
const bodyOf = async (request) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
};

module.exports = { Gate, bodyOf, pages };
