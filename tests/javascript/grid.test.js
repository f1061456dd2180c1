import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Grid } from "../../ipyremote/notebook/static/remote.js";
import { changes, page, whole } from "./page.js";

const [PENDING, RUNNING, RESOLVED, FAILED, CANCELLED, LOST] = [0, 1, 2, 3, 4, 5];

let browser;
let opened;
let well;
let tip;
let grid;

beforeEach(() => {
  browser = page({ width: 142 });
  opened = [];
  well = document.createElement("div");
  tip = document.createElement("div");
  document.body.append(well, tip);
  grid = new Grid(well, tip, (place) => opened.push(place));
});

function fills() {
  return browser.drawn(grid.canvas).filter(([name]) => name === "fillRect");
}

test("a whole grid is drawn at the next frame, once, in rows as wide as the page allows", () => {
  grid.take("whole", whole(...Array(12).fill(RESOLVED)));
  grid.take("whole", whole(...Array(12).fill(RESOLVED)));
  assert.equal(browser.drawn(grid.canvas).length, 0);
  assert.equal(browser.frame(), 1);
  assert.equal(grid.columns, 10);
  assert.equal(fills().length, 12);
  assert.deepEqual(fills()[11].slice(1, 5), [14, 14, 12, 12]);
  assert.match(grid.canvas.getAttribute("aria-label"), /^12 refs\./);
});

test("a message of changes draws only the changed cells", () => {
  grid.take("whole", whole(RESOLVED, RUNNING, PENDING));
  browser.frame();
  const before = browser.drawn(grid.canvas).length;
  grid.take("changes", changes([1, FAILED]));
  browser.frame();
  assert.deepEqual([...grid.states], [RESOLVED, FAILED, PENDING]);
  const cleared = browser.drawn(grid.canvas).slice(before).filter(([name]) => name === "clearRect");
  assert.deepEqual(cleared.map((call) => call.slice(1, 3)), [[14, 0]]);
});

test("the grid ignores changes of unknown refs and incomplete bytes", () => {
  grid.take("whole", whole(PENDING));
  grid.take("changes", changes([7, FAILED]));
  grid.take("changes", new DataView(new ArrayBuffer(3)));
  browser.frame();
  assert.deepEqual([...grid.states], [PENDING]);
});

test("the bytes of a message may begin anywhere in a larger buffer", () => {
  const buffer = new Uint8Array([9, 9, FAILED, RESOLVED, 9]).buffer;
  grid.take("whole", new DataView(buffer, 2, 2));
  assert.deepEqual([...grid.states], [FAILED, RESOLVED]);
});

test("states differ without colour: a pending cell is hollow and a failed cell is crossed out", () => {
  grid.take("whole", whole(PENDING));
  browser.frame();
  assert.equal(fills().length, 0);
  assert.equal(browser.drawn(grid.canvas).filter(([name]) => name === "strokeRect").length, 1);
  grid.take("whole", whole(FAILED));
  browser.frame();
  assert.equal(browser.drawn(grid.canvas).filter(([name]) => name === "lineTo").length, 2);
});

test("a click on a ref opens the ref, and a click beside the refs opens none", () => {
  grid.take("whole", whole(...Array(12).fill(RESOLVED)));
  browser.frame();
  browser.click(grid.canvas, { clientX: 20, clientY: 20 });
  browser.click(grid.canvas, { clientX: 100, clientY: 20 });
  browser.click(grid.canvas, { clientX: 3, clientY: 300 });
  assert.deepEqual(opened, [11]);
});

test("arrow keys move the cursor within the grid, Enter opens a ref, and the page gets all other keys", () => {
  grid.take("whole", whole(...Array(12).fill(RESOLVED)));
  browser.frame();
  browser.key(grid.canvas, "Enter");
  for (const key of ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "Enter"]) browser.key(grid.canvas, key);
  for (const key of ["Home", " ", "ArrowLeft", "ArrowUp", "Enter", "End", "Enter"]) browser.key(grid.canvas, key);
  assert.deepEqual(opened, [11, 0, 0, 11]);
  assert.equal(browser.key(grid.canvas, "ArrowUp").defaultPrevented, true);
  assert.equal(browser.key(grid.canvas, "x").defaultPrevented, false);
});

test("the F key moves the cursor to the next failure, and from the last failure to the first", () => {
  grid.take("whole", whole(RESOLVED, FAILED, PENDING, FAILED));
  const places = [];
  for (const key of ["f", "F", "f"]) {
    browser.key(grid.canvas, key);
    places.push(grid.cursor);
  }
  assert.deepEqual(places, [1, 3, 1]);
  assert.equal(tip.textContent, "ref 2 of 4: failed");
});

test("the tip describes the ref under the pointer, and is empty after the pointer has left", () => {
  grid.take("whole", whole(RESOLVED, CANCELLED));
  browser.frame();
  grid.canvas.dispatchEvent(new browser.window.MouseEvent("mousemove", { clientX: 20, clientY: 3 }));
  assert.equal(tip.textContent, "ref 2 of 2: cancelled");
  grid.canvas.dispatchEvent(new browser.window.MouseEvent("mouseleave"));
  assert.equal(tip.textContent, "");
});

test("refs that had not ended are lost when the kernel is gone", () => {
  grid.take("whole", whole(PENDING, RUNNING, RESOLVED, FAILED, CANCELLED));
  grid.lose();
  assert.deepEqual([...grid.states], [LOST, LOST, RESOLVED, FAILED, CANCELLED]);
});

test("a closed grid draws nothing", () => {
  grid.take("whole", whole(PENDING));
  grid.close();
  assert.equal(browser.frame(), 0);
});

test("cells are smaller in a grid with more refs", () => {
  const sizes = [400, 3000, 30_000, 30_001].map((count) => {
    grid.take("whole", new DataView(new ArrayBuffer(count)));
    browser.frame();
    return grid.size;
  });
  assert.deepEqual(sizes, [14, 9, 6, 4]);
});
