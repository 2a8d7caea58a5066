// Takes part in a study without a browser: node study_participant.js index.html FILE
// Looks at the alt texts and files as the page sets them, and always clicks the picture whose file ends in FILE.
"use strict";
const fs = require("fs");
const page = fs.readFileSync(process.argv[2], "utf-8");
const wanted = process.argv[3];
const study = page.match(/<script id="study" type="application\/json">([\s\S]*?)<\/script>/)[1];
const script = page.match(/<script>\n"use strict";([\s\S]*?)<\/script>/)[1];

class Element {
  constructor(tag) { this.tag = tag; this.children = []; this.textContent = ""; }
  append(...more) { this.children.push(...more); }
  replaceChildren(...more) { this.children = more; }
  all(tag) {
    return this.children.flatMap((child) => [...(child.tag === tag ? [child] : []), ...child.all(tag)]);
  }
}

const main = new Element("main");
const data = Object.assign(new Element("script"), { textContent: study });
let saved = null;
const kept = {};
const shown = [];
const browser = {
  document: { getElementById: (id) => (id === "main" ? main : data), createElement: (tag) => new Element(tag) },
  localStorage: { getItem: (key) => kept[key] ?? null, setItem: (key, text) => { kept[key] = text; } },
  Blob: class { constructor(parts) { this.text = parts.join(""); } },
  URL: { createObjectURL: (blob) => { saved = blob.text; return "blob:"; } },
};
new Function(...Object.keys(browser), script)(...Object.values(browser));
for (let n = 0; saved === null && n < 1000; n++) {
  const choices = main.all("button").filter((button) => button.className === "choice");
  const files = choices.map((button) => button.all("img")[0].src);
  shown.push(files);
  choices[Math.max(0, files.findIndex((file) => file.endsWith(wanted)))].onclick();
}
console.log(JSON.stringify({ votes: JSON.parse(saved), kept: JSON.parse(Object.values(kept)[0]), shown }));
