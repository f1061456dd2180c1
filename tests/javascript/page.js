// A page without a browser: jsdom, a canvas that records its drawing calls, and a model like Jupyter's.

import { JSDOM } from "jsdom";

// A drawing context that records its calls as [name, ...arguments]; properties such as fillStyle can be read.
class Context {
  constructor() {
    this.calls = [];
    return new Proxy(this, {
      get: (target, name) => {
        if (name in target) return target[name];
        if (name === "measureText") return (text) => ({ width: 6 * text.length });
        return (...values) => {
          target.calls.push([name, ...values, target.fillStyle]);
        };
      },
      set: (target, name, value) => {
        target[name] = value;
        return true;
      },
    });
  }
}

// A page that the tests of one file share; `frame()` runs the callbacks that the browser runs before painting.
export function page({ width = 500 } = {}) {
  const dom = new JSDOM("<!doctype html><body></body>", { pretendToBeVisual: false });
  const { window } = dom;
  const frames = new Map();
  let number = 0;
  const contexts = new WeakMap();
  window.HTMLCanvasElement.prototype.getContext = function getContext() {
    if (!contexts.has(this)) contexts.set(this, new Context());
    return contexts.get(this);
  };
  Object.defineProperty(window.HTMLElement.prototype, "clientWidth", { get: () => width, configurable: true });
  Object.assign(globalThis, {
    window,
    document: window.document,
    getComputedStyle: window.getComputedStyle.bind(window),
    MutationObserver: window.MutationObserver,
    ResizeObserver: class {
      observe() {}
      disconnect() {}
    },
    requestAnimationFrame: (callback) => {
      number += 1;
      frames.set(number, callback);
      return number;
    },
    cancelAnimationFrame: (id) => frames.delete(id),
  });
  return {
    window,
    frame() {
      const due = [...frames.values()];
      frames.clear();
      for (const callback of due) callback();
      return due.length;
    },
    drawn(canvas) {
      return canvas.getContext("2d").calls;
    },
    key(element, key) {
      const event = new window.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
      element.dispatchEvent(event);
      return event;
    },
    click(element, at = {}) {
      element.dispatchEvent(new window.MouseEvent("click", { bubbles: true, ...at }));
    },
  };
}

// The front end's half of a widget's model: values, listeners, and messages sent to the kernel.
export class Model {
  constructor(values = {}) {
    this.values = { html: "", state: "pending", card: "", lasting: false, number: 0, ...values };
    this.listeners = [];
    this.sent = [];
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
    this.emit(`change:${name}`);
  }

  on(event, listener) {
    this.listeners.push([event, listener]);
  }

  off(event, listener) {
    this.listeners = this.listeners.filter(([name, each]) => name !== event || each !== listener);
  }

  emit(event, ...values) {
    for (const [name, listener] of [...this.listeners]) if (name === event) listener(...values);
  }

  send(content) {
    this.sent.push(content);
  }
}

// Returns the bytes of a whole grid, one byte for each ref.
export function whole(...states) {
  return new DataView(new Uint8Array(states).buffer);
}

// Returns the bytes of changes: the place of a ref in the upper bits, and the new state in the lower three bits.
export function changes(...pairs) {
  const view = new DataView(new ArrayBuffer(4 * pairs.length));
  pairs.forEach(([place, state], index) => view.setUint32(4 * index, place * 8 + state, true));
  return view;
}
