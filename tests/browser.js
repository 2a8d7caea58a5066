// A browser for the mirror's page, without a window: node browser.js URL
// Reads commands as lines of JSON, does each, waits until nothing is on its way, and answers with what the page shows
// and what it has done since. Requests are real; the clock is its own and moves by {"wait": MILLISECONDS}.
"use strict";
const home = process.argv[2];

class Element {
  constructor(tag, attributes = "") {
    const dataset = new Proxy({}, { set: (all, name, value) => { all[name] = String(value); return true; } });
    Object.assign(this, { tag, dataset, children: [], parent: null, textContent: "" });
    for (const [, name, value] of attributes.matchAll(/([\w-]+)(?:="([^"]*)")?/g)) {
      if (name.startsWith("data-")) this.dataset[name.slice(5)] = value;
      else if (name !== "src") this[name] = value ?? true;
    }
  }
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
  get isConnected() { return all.includes(this) || Boolean(this.parent?.isConnected); }
  setAttribute(name, value) { this[name] = String(value); }
  get src() { return this.address; }
  set src(address) {
    this.address = address;
    done.push(address);
    coming(async () => {
      const answer = await fetch(home + address).catch(() => null);
      await answer?.body?.cancel();
      if (!answer?.ok && this.address === address) this.onerror?.();
    });
  }
  click() {
    if (this.disabled) return;
    if (this.download) done.push({ saved: this.download, size: this.href });
    else if (this.type === "file") done.push("chooses a file");
    else this.onclick();
  }
}

let all = [], done = [], timers = [], now = 0, underway = 0, held = 0;
const one = (selector) => all.find((element) => {
  const [, id, name, value] = /^#(\w+)$|^\[data-(\w+)=(\w+)\]$/.exec(selector);
  return id ? element.id === id : element.dataset[name] === value;
});

async function coming(work) {
  underway += 1;
  try { return await work(); } finally { underway -= 1; }
}

const browser = {
  document: {
    hidden: false,
    getElementById: (id) => one("#" + id),
    createElement: (tag) => new Element(tag),
    querySelector: one,
    querySelectorAll: (selector) => all.filter((element) => selector.slice(6, -1) in element.dataset),
  },
  Date: { now: () => now },
  URL: { createObjectURL: (blob) => blob.size, revokeObjectURL: () => {} },
  AbortSignal: {}, // as in older phones, which have no AbortSignal.timeout
  setTimeout: (work, wait) => {
    const timer = { work, at: now + wait };
    timers.push(timer);
    return timer;
  },
  clearTimeout: (timer) => { timers = timers.filter((each) => each !== timer); },
  fetch: (address, options) => coming(async () => {
    if (address !== "state") done.push(`${options?.method ?? "GET"} ${address}`);
    const answer = await fetch(home + address, options);
    for (const read of ["text", "json", "blob"]) {
      const reading = answer[read].bind(answer);
      answer[read] = () => coming(reading);
    }
    return answer;
  }),
};

async function settled() {
  const begun = Date.now();
  for (let calm = 0; calm < 3; calm++) {
    if (Date.now() - begun > 15000) throw new Error("a request does not end");
    await new Promise(setImmediate);
    if (underway > held) calm = 0;
  }
}

const commands = {
  held: (count) => { held = count; }, // requests that the server does not answer for now
  async wait(milliseconds) {
    for (const end = now + milliseconds; ;) {
      const next = timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      now = next ? next.at : end;
      if (!next) return;
      browser.clearTimeout(next);
      next.work();
      await settled();
    }
  },
  click: (selector) => one(selector).click(),
  wear: (number) => one("#garments").children.find((button) => button.dataset.number === String(number)).click(),
  fail: (selector) => one(selector).onerror(),
  hide: (hidden) => { browser.document.hidden = hidden; browser.document.onvisibilitychange(); },
  file: ({ name, size, base64 }) => {
    const body = base64 ? Buffer.from(base64, "base64") : Buffer.alloc(size);
    const input = one("#file");
    Object.assign(input, { files: [new File([body], name)], value: name });
    const before = one("#add").textContent;
    input.onchange();
    done.push({ add: one("#add").textContent, disabled: Boolean(one("#add").disabled), before, value: input.value });
  },
};

function look() {
  const shown = (element) => (element.hidden ? null : { src: element.src.split("?")[0], alt: element.alt });
  const said = Object.fromEntries(["trouble", "countdown", "rate"].map((id) => [id, one("#" + id).textContent]));
  const garments = one("#garments").children.map(
    (button) => [Number(button.dataset.number), button.title, button["aria-pressed"], button.children[0].src.split("?")[0]]);
  const adds = one("#add");
  return {
    ...said, picture: shown(one("#picture")), worn: shown(one("#worn")), garments,
    add: adds.hidden ? null : adds.disabled ? "disabled" : adds.textContent,
    compares: !one("[data-key=c]").hidden, done: done.splice(0),
  };
}

(async () => {
  const page = await (await fetch(home)).text();
  const [, body, script] = /<\/style>([\s\S]*)<script>([\s\S]*?)<\/script>/.exec(page);
  for (const [, tag, attributes, text] of body.matchAll(/<(\w+)((?:\s[^>]*)?)>([^<]*)/g))
    all.push(Object.assign(new Element(tag, attributes), { textContent: text.trim() }));
  new Function(...Object.keys(browser), script)(...Object.values(browser));
  for await (const line of require("node:readline").createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    for (const [name, argument] of Object.entries(command)) await commands[name](argument);
    await settled();
    console.log(JSON.stringify(look()));
  }
  process.exit();
})();
