// Runs the script of monitoring's page once, on a document that only keeps texts.
// Arguments: the page. Standard input: answers of the API by path, as JSON.
// Prints as JSON: the verdict, its class, the title, the texts of the alerts, the note below, and drift.
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");

const script = /<script>([^]*)<\/script>/.exec(fs.readFileSync(process.argv[2], "utf8"))[1];
const answers = JSON.parse(fs.readFileSync(0, "utf8"));

class Element {
  constructor() { Object.assign(this, { children: [], style: {}, className: "", value: "24" }); }
  setAttribute() {}
  addEventListener() {}
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  set textContent(text) { this.children = [text]; }
  get textContent() { return this.children.map(child => child.textContent ?? String(child)).join(""); }
}

const elements = {};
const byId = id => elements[id] ??= new Element();
const document = {
  getElementById: byId,
  createElement: () => new Element(),
  createElementNS: () => new Element(),
  addEventListener() {},
};

function ended() {
  const verdict = byId("verdict"), [list, note] = byId("alerts").children;
  console.log(JSON.stringify({
    verdict: verdict.textContent,
    kind: verdict.className,
    title: document.title,
    alerts: list.children.map(child => child.textContent ?? child),
    note: note?.textContent ?? "",
    drift: byId("drift").textContent,
  }));
}

const fetch = async path => ({ ok: path in answers, status: path in answers ? 200 : 404, json: async () => answers[path] ?? {} });
const sessionStorage = { getItem: () => null };
// The next round is requested when the first one is shown.
vm.runInNewContext(script, { document, fetch, sessionStorage, setTimeout: ended, clearTimeout() {}, Intl });
