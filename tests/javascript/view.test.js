import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import widget from "../../ipyremote/notebook/static/remote.js";
import { Model, page, whole } from "./page.js";

let browser;
let el;
let now;

beforeEach(() => {
  browser = page();
  now = 1000;
  mock.method(performance, "now", () => now);
  mock.timers.enable({ apis: ["setInterval", "setTimeout"] });
  el = document.createElement("div");
  document.body.append(el);
});

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

const RUNNING = `<div class="ipyremote" data-state="running"><span class="ipyremote-word">running</span>
<span class="ipyremote-time" data-ticking="1" data-seconds="2.5">2.5 s</span></div>`;
const DONE = '<div class="ipyremote" data-state="resolved"><span class="ipyremote-word">resolved</span></div>';

function shown(values) {
  const model = new Model(values);
  const undo = widget.render({ model, el });
  return { model, undo };
}

function pass(milliseconds) {
  now += milliseconds;
  mock.timers.tick(milliseconds);
}

function buttons(within = el) {
  return [...within.querySelectorAll("button")].filter((button) => !button.hidden).map((button) => button.textContent);
}

function press(text, within = el) {
  browser.click([...within.querySelectorAll("button")].find((button) => button.textContent === text));
}

test("a view shows the model's HTML and tells the kernel that the view is shown", () => {
  const { model } = shown({ html: DONE, state: "resolved" });
  assert.equal(el.querySelector(".ipyremote-word").textContent, "resolved");
  assert.deepEqual(model.sent, [{ kind: "shown", place: -1 }]);
});

test("a time counts from the kernel's time, and stops when the task has ended", () => {
  const { model } = shown({ html: RUNNING, state: "running" });
  pass(300);
  assert.equal(el.querySelector(".ipyremote-time").textContent, "2.8 s");
  model.set("html", DONE);
  pass(300);
  assert.equal(el.querySelector(".ipyremote-time"), null);
});

test("a task that has not ended can be cancelled once", () => {
  const { model } = shown({ html: RUNNING, state: "running" });
  assert.deepEqual(buttons(), ["Cancel"]);
  press("Cancel");
  assert.deepEqual(model.sent.at(-1), { kind: "cancel", place: -1 });
  const cancel = el.querySelector("button");
  assert.equal(cancel.textContent, "Cancelling…");
  assert.equal(cancel.disabled, true);
});

test("a failed task can be repeated in a lasting view", () => {
  const { model } = shown({ html: DONE, state: "failed" });
  assert.deepEqual(buttons(), []);
  model.set("lasting", true);
  assert.deepEqual(buttons(), ["Retry"]);
  press("Retry");
  assert.deepEqual(model.sent.at(-1), { kind: "retry", place: -1 });
});

test("a screen reader announces a new state, and not each tick", () => {
  const { model } = shown({ html: RUNNING, state: "running" });
  const status = el.querySelector("[role=status]");
  assert.equal(status.textContent, "running");
  pass(500);
  assert.equal(status.textContent, "running");
  model.set("state", "resolved");
  assert.equal(status.textContent, "resolved");
});

test("details that the reader has unfolded stay unfolded when the HTML changes", () => {
  const { model } = shown({ html: "<details><summary>a</summary></details>" });
  el.querySelector("details").open = true;
  model.set("html", "<details><summary>b</summary></details>");
  assert.equal(el.querySelector("details").open, true);
  model.set("html", "<details></details><details></details>");
  assert.equal(el.querySelector("details").open, false);
});

test("a grid appears with its first bytes, and has buttons for all refs", () => {
  const { model } = shown({ state: "running" });
  model.emit("msg:custom", { kind: "grid", form: "whole" }, []);
  assert.equal(el.querySelector("canvas"), null);
  model.emit("msg:custom", { kind: "grid", form: "whole" }, [whole(3, 1)]);
  assert.ok(el.querySelector("canvas"));
  assert.deepEqual(buttons(), ["Cancel all"]);
});

test("the card of an opened ref has buttons for that ref", () => {
  const { model } = shown({ state: "running" });
  model.emit("msg:custom", { kind: "grid", form: "whole" }, [whole(3, 1)]);
  browser.frame();
  const canvas = el.querySelector("canvas");
  browser.key(canvas, "End");
  browser.key(canvas, "Enter");
  assert.deepEqual(model.sent.at(-1), { kind: "open", place: 1 });
  model.set("card", '<p data-state="running">x#2</p>');
  const card = el.querySelector(".ipyremote-opened");
  assert.deepEqual(buttons(card), ["Cancel", "Close"]);
  press("Cancel", card);
  assert.deepEqual(model.sent.at(-1), { kind: "cancel", place: 1 });
  model.set("card", '<p data-state="failed">x#2</p>');
  assert.deepEqual(buttons(card), ["Retry", "Close"]);
  press("Close", card);
  assert.deepEqual(model.sent.at(-1), { kind: "close", place: -1 });
  model.set("card", "");
  assert.equal(el.querySelector(".ipyremote-opened"), null);
});

test("a task that had not ended is lost after a restart of the kernel, and its view has no buttons", () => {
  const { model } = shown({ html: RUNNING, state: "running" });
  model.emit("comm_live_update");
  assert.equal(el.querySelector(".ipyremote-word").textContent, "lost");
  assert.match(el.textContent, /The kernel was restarted/);
  assert.deepEqual(buttons(), []);
  pass(1000);
  assert.equal(el.querySelector(".ipyremote-time").textContent, "2.5 s");
});

test("a closed view has no listeners, and tells the kernel of its end a moment later", () => {
  const { model, undo } = shown({ html: RUNNING, state: "running" });
  undo();
  assert.deepEqual(model.listeners, []);
  assert.equal(model.sent.length, 1);
  pass(500);
  assert.deepEqual(model.sent.at(-1), { kind: "gone", place: -1 });
});

test("the end of a view whose widget the kernel has already closed is no error", () => {
  const { model, undo } = shown({});
  undo();
  model.send = () => {
    throw new Error("closed");
  };
  assert.doesNotThrow(() => pass(500));
});

test("a lasting view replaces its static output, and restores the output at its end", () => {
  const area = document.createElement("div");
  area.className = "jp-OutputArea";
  document.body.append(area);
  area.append(el);
  const { model, undo } = shown({ html: DONE, state: "failed", lasting: true, number: 5 });
  pass(100);
  undo();
  el.remove();
  area.innerHTML = '<div class="ipyremote" data-view="5">static</div>';
  pass(200);
  assert.ok(area.querySelector(".ipyremote-lasting"));
  assert.deepEqual(buttons(area), ["Retry"]);
  model.emit("destroy");
  assert.equal(area.textContent, "static");
});
