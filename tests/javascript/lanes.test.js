import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { Lanes } from "../../ipyremote/notebook/static/remote.js";
import { page } from "./page.js";

let browser;
let tip;
let lanes;
let now;

beforeEach(() => {
  browser = page({ width: 674 });
  now = 5000;
  mock.restoreAll();
  mock.method(performance, "now", () => now);
  const well = document.createElement("div");
  tip = document.createElement("div");
  document.body.append(well, tip);
  lanes = new Lanes(well, tip);
});

const WORKERS = [
  [7, "worker 1"],
  [8, "worker 2"],
];
const DONE = [7, "square#1", 60, 80, "done"];
const FAILED = [8, "cube#1", 70, 75, "failed"];

function take(message) {
  lanes.take({ now: 100, lanes: WORKERS, spans: [], ...message });
}

test("a message adds spans to the known spans, and a whole message replaces them", () => {
  take({ spans: [DONE] });
  take({ spans: [FAILED] });
  assert.deepEqual(lanes.spans, [DONE, FAILED]);
  take({ whole: true, spans: [FAILED] });
  assert.deepEqual(lanes.spans, [FAILED]);
});

test("the lanes keep only the latest of very many spans", () => {
  take({ spans: Array(20_001).fill(DONE) });
  take({ spans: [FAILED] });
  assert.equal(lanes.spans.length, 20_000);
  assert.equal(lanes.spans.at(-1), FAILED);
});

test("the right edge is the kernel's time plus the time passed since the message", () => {
  take({});
  now += 2500;
  assert.equal(lanes.edge(), 102.5);
});

test("a span is drawn at its time, and the names of workers are drawn before the lanes", () => {
  take({ spans: [DONE] });
  browser.frame();
  const drawn = browser.drawn(lanes.canvas);
  // The range of 60 seconds, 40 s to 100 s, is 600 pixels wide and begins after a margin of 74 pixels.
  assert.ok(drawn.some(([name, x, y, width]) => name === "fillRect" && x === 274 && y === 2 && width === 199));
  const texts = drawn.filter(([name]) => name === "fillText").map(([, text]) => text);
  assert.deepEqual(texts.slice(0, 3), ["worker 1", "worker 2", "square#1"]);
  assert.ok(texts.includes("now"));
  assert.ok(texts.includes("-10.0 s"));
});

test("the span of a running task grows up to the present", () => {
  take({ running: [[7, "square#2", 95]] });
  now += 1000;
  assert.deepEqual(lanes.all(), [[7, "square#2", 95, 101, "running"]]);
});

test("a span out of sight or without a lane is not drawn", () => {
  take({ spans: [[7, "old#1", 1, 2, "done"], [9, "other#1", 60, 80, "done"]] });
  browser.frame();
  const texts = browser.drawn(lanes.canvas).filter(([name]) => name === "fillText").map(([, text]) => text);
  assert.ok(!texts.includes("old#1"));
  assert.ok(!texts.includes("other#1"));
});

test("plus, minus and 0 change the range, and arrows move it back and forth but not into the future", () => {
  take({});
  browser.key(lanes.canvas, "+");
  assert.equal(lanes.range, 30);
  browser.key(lanes.canvas, "-");
  browser.key(lanes.canvas, "-");
  assert.equal(lanes.range, 120);
  browser.key(lanes.canvas, "ArrowLeft");
  assert.equal(lanes.back, 15);
  browser.key(lanes.canvas, "ArrowRight");
  browser.key(lanes.canvas, "ArrowRight");
  assert.equal(lanes.back, 0);
  browser.key(lanes.canvas, "0");
  assert.deepEqual([lanes.back, lanes.range], [0, 60]);
  assert.equal(browser.key(lanes.canvas, "x").defaultPrevented, false);
});

test("the range has a minimum and a maximum", () => {
  for (let time = 0; time < 30; time += 1) lanes.zoom(0.5);
  assert.equal(lanes.range, 0.01);
  for (let time = 0; time < 30; time += 1) lanes.zoom(2);
  assert.equal(lanes.range, 3600);
});

test("the wheel scrolls the page unless the Control key is down", () => {
  const wheel = (options) => {
    const event = new browser.window.WheelEvent("wheel", { deltaY: -300, cancelable: true, ...options });
    lanes.canvas.dispatchEvent(event);
    return event.defaultPrevented;
  };
  assert.equal(wheel({}), false);
  assert.equal(lanes.range, 60);
  assert.equal(wheel({ ctrlKey: true }), true);
  assert.ok(lanes.range < 60);
});

test("the tip has the task under the pointer, its end and its duration", () => {
  take({ spans: [DONE, FAILED] });
  browser.frame();
  lanes.canvas.getBoundingClientRect = () => ({ left: 0, top: 0, width: 674, height: 52 });
  const over = (clientX, clientY) => {
    lanes.canvas.dispatchEvent(new browser.window.MouseEvent("mousemove", { clientX, clientY }));
    return tip.textContent;
  };
  assert.equal(over(300, 5), "square#1: done, 20.0 s");
  assert.equal(over(400, 25), "cube#1: failed, 5.0 s");
  assert.equal(over(600, 25), "");
});

test("the lanes follow the present unless the reader has moved back", () => {
  take({});
  browser.frame();
  lanes.tick();
  assert.equal(browser.frame(), 1);
  lanes.back = 10;
  lanes.tick();
  assert.equal(browser.frame(), 0);
});
