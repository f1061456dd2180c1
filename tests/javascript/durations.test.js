import assert from "node:assert/strict";
import { test } from "node:test";

import { durationText } from "../../ipyremote/notebook/static/remote.js";

for (const [seconds, text] of [
  [-1, "0 ms"],
  [0, "0 ms"],
  [0.0123, "12 ms"],
  [0.9994, "999 ms"],
  [0.9995, "1.0 s"],
  [59.94, "59.9 s"],
  [59.96, "0 min 59 s"],
  [61.9, "1 min 01 s"],
  [3599.9, "59 min 59 s"],
  [3600, "1 h 00 min"],
  [36_125, "10 h 02 min"],
]) {
  test(`${seconds} seconds are shown as "${text}"`, () => assert.equal(durationText(seconds), text));
}
