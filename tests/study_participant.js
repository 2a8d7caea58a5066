// Takes part in a study without a browser: node study_participant.js index.html FILE STORED LIMIT [MISSING]
// Looks at the alt texts and files as the page sets them, and chooses the picture whose file ends in FILE, by clicks
// and keys in turn. STORED is what the browser has kept as JSON, null where it keeps nothing; LIMIT ends the visit
// after as many votes. Pictures whose files end in MISSING are not there.
"use strict";
const fs = require("fs");
const page = fs.readFileSync(process.argv[2], "utf-8");
const wanted = process.argv[3];
const kept = JSON.parse(process.argv[4]);
const limit = Number(process.argv[5]);
const missing = process.argv[6];
const study = page.match(/<script id="study" type="application\/json">([\s\S]*?)<\/script>/)[1];
const script = page.match(/<script>\n"use strict";([\s\S]*?)<\/script>/)[1];

class Element {
  constructor(tag) { this.tag = tag; this.children = []; this.textContent = ""; }
  append(...more) { this.children.push(...more); }
  replaceChildren(...more) { this.children = more; }
  all(tag) {
    return this.children.flatMap((child) => [...(child.tag === tag ? [child] : []), ...child.all(tag)]);
  }
  async decode() { if (missing && this.src.endsWith(missing)) throw new Error("EncodingError"); }
}

const main = new Element("main");
const data = Object.assign(new Element("script"), { textContent: study });
let saved = null;
const shown = [];
const browser = {
  document: { getElementById: (id) => (id === "main" ? main : data), createElement: (tag) => new Element(tag) },
  localStorage: { // throws where nothing can be kept, as browsers do
    getItem: (key) => kept[key] ?? null, setItem: (key, text) => { kept[key] = text; },
  },
  Blob: class { constructor(parts) { this.text = parts.join(""); } },
  URL: { createObjectURL: (blob) => { saved = blob.text; return "blob:"; } },
};

(async () => {
  new Function(...Object.keys(browser), script)(...Object.values(browser));
  for (let n = 0; saved === null && n < limit; n++) {
    const choices = main.all("button").filter((button) => button.className === "choice");
    const files = choices.map((button) => button.all("img")[0].src);
    const side = Math.max(0, files.findIndex((file) => file.endsWith(wanted)));
    shown.push(files);
    choices[1 - side].onclick({ detail: 1 });  // nothing is to be seen yet
    await new Promise(setImmediate);
    choices[1 - side].onclick({ detail: 2 });  // a double click on the question before
    if (n % 2) {
      browser.document.onkeydown({ repeat: true, key: ["ArrowRight", "ArrowLeft"][side] });  // held down
      browser.document.onkeydown({ repeat: false, key: ["ArrowLeft", "ArrowRight"][side] });
    } else choices[side].onclick({ detail: 1 });
  }
  const [next] = main.all("button").slice(-1);
  const waits = next.disabled;
  const told = main.children.map((each) => each.textContent).join(" ");
  let again = null;
  if (saved !== null) {
    main.all("a")[0].onclick();
    next.onclick();
    again = kept && JSON.parse(Object.values(kept)[0]);
  }
  console.log(JSON.stringify({ votes: JSON.parse(saved), kept, shown, told, again, next: [waits, next.disabled] }));
})();
