// Visits the mirror's page without a browser: node page_visitor.js page.html < answers.json
// Each answer {status, type, text} is the next one to `state`. Prints what the page shows after each of them. Pictures
// never come, and `AbortSignal.timeout` is missing, as in older phones. In the end it takes a photo, whose download
// breaks off.
"use strict";
const fs = require("fs");
const script = fs.readFileSync(process.argv[2], "utf-8").match(/<script>([\s\S]*?)<\/script>/)[1];
const answers = JSON.parse(fs.readFileSync(0, "utf-8"));

class Element {
  constructor() { this.children = []; this.parent = null; this.dataset = {}; this.textContent = ""; this.sources = []; }
  append(one) { this.insertBefore(one, null); }
  insertBefore(one, there) {
    one.remove();
    this.children.splice(there ? this.children.indexOf(there) : this.children.length, 0, one);
    one.parent = this;
  }
  remove() {
    if (this.parent) this.parent.children.splice(this.parent.children.indexOf(this), 1);
    this.parent = null;
  }
  get isConnected() { return this === elements.garments || Boolean(this.parent && this.parent.isConnected); }
  setAttribute(name, value) { this[name] = value; }
  set src(address) { this.sources.push(address); if (this.onerror) this.onerror(); }
  get src() { return this.sources[this.sources.length - 1]; }
}

const elements = {}, later = [], asked = [];
const find = (id) => (elements[id] ??= new Element());
const browser = {
  document: {
    getElementById: find, createElement: () => new Element(), querySelector: () => find("compare"), querySelectorAll: () => [],
  },
  AbortSignal: {},
  setTimeout: (work, wait) => { later.push({ work, wait }); return later.length; },
  clearTimeout: () => {},
  fetch: async (address) => {
    asked.push(address);
    const { status, type, text } = answers.shift();
    return {
      ok: status === 200, headers: { get: () => type }, text: async () => text, json: async () => JSON.parse(text),
      blob: async () => { throw new TypeError("network error"); },
    };
  },
};

async function visit() {
  const takePhoto = new Function(...Object.keys(browser), `${script}; return takePhoto;`)(...Object.values(browser));
  const seen = [];
  for (;;) {
    await new Promise(setImmediate);
    const garments = find("garments").children.map((button) => button.children[0].sources.map((source) => source.split("?")[0]));
    seen.push({ trouble: find("trouble").textContent, worn: find("worn").alt, garments });
    if (!answers.length) break;
    for (const { work, wait } of later.splice(0)) if (wait !== 3000) await work();
  }
  const states = asked.length;
  answers.push({ status: 200, type: "image/jpeg", text: "" });
  await takePhoto(0);
  console.log(JSON.stringify({ asked: asked.slice(0, states), seen, "broken off": find("trouble").textContent }));
}
visit();
