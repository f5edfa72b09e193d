// The part of the frame that the model looks at: drawn, moved and resized on the live picture.

import { make, session } from "./session.js";

const LEAST = 0.02; // of the frame, a side
const STEP = 0.01; // of the frame, for each press of an arrow key
const FAR = 0.1; // the same with Ctrl
const CORNERS = ["nw", "ne", "sw", "se"];

const within = (value, low, high) => Math.min(Math.max(value, low), high);

// Returns where the picture is within its canvas, whose sides may be longer: CSS pixels.
function pictureOf(canvas) {
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const width = canvas.width * scale;
  const height = canvas.height * scale;
  const left = box.left + (box.width - width) / 2;
  return { left, top: box.top + (box.height - height) / 2, width, height };
}

// Returns a rectangle between two points, (x, y) in fractions of the frame.
function between(a, b) {
  const [left, right] = [Math.min(a.x, b.x), Math.max(a.x, b.x)];
  const [top, bottom] = [Math.min(a.y, b.y), Math.max(a.y, b.y)];
  const w = Math.max(LEAST, right - left);
  const h = Math.max(LEAST, bottom - top);
  return { x: Math.min(left, 1 - w), y: Math.min(top, 1 - h), w, h };
}

// Returns the region as the verb takes it: 4 decimals, within the frame.
export function regionText({ x, y, w, h }) {
  const round = (value) => Math.round(1e4 * value) / 1e4;
  const [left, top] = [round(x), round(y)];
  const [width, height] = [round(Math.min(w, 1 - left)), round(Math.min(h, 1 - top))];
  return left === 0 && top === 0 && width === 1 && height === 1
    ? "whole"
    : [left, top, width, height].join(",");
}

class RegionEditor extends HTMLElement {
  #region = null; // {x, y, w, h} in fractions of the frame while it is edited
  #drag = null;

  // Edits on this canvas; `begin` is called before, to show the camera's view.
  connect(canvas, begin) {
    this.canvas = canvas;
    this.hidden = true;
    this.box = make("div", { class: "region", tabindex: 0, role: "application" });
    this.box.append(...CORNERS.map((corner) => make("span", { class: "corner", "data-corner": corner })));
    this.append(this.box);
    this.button = make("button", { type: "button", "aria-expanded": "false" }, "Change region");
    this.button.addEventListener("click", () => (this.#region ? this.#end() : this.#begin(begin)));
    this.help = make("p", { class: "quiet" });
    const whole = make("button", { type: "button" }, "Whole frame");
    const cancel = make("button", { type: "button" }, "Cancel");
    this.save = make("button", { type: "button", class: "main" }, "Look at this");
    whole.addEventListener("click", () => this.#set({ x: 0, y: 0, w: 1, h: 1 }));
    cancel.addEventListener("click", () => this.#end());
    this.save.addEventListener("click", () => this.#save());
    const buttons = make("div", { class: "line" }, this.save, whole, cancel);
    this.controls = make("div", { class: "region-controls", hidden: true }, this.help, buttons);
    this.addEventListener("pointerdown", (event) => this.#press(event));
    this.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      this.addEventListener(kind, () => (this.#drag = null));
    }
    this.box.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#place()).observe(canvas);
    window.addEventListener("scroll", () => this.#place(), { passive: true });
    session.addEventListener("picture", () => this.#place());
    session.addEventListener("connection", () => (this.save.disabled = !session.connected));
  }

  #begin(begin) {
    begin();
    const [x, y, w, h] = session.frame?.looked_at ?? [0, 0, 1, 1];
    const learned = Object.values(session.frame?.samples ?? {}).some((count) => count > 0);
    this.help.textContent =
      "Draw on the picture, or drag the frame and its corners. Arrow keys move it, with Shift they " +
      "resize it, with Ctrl by larger steps; Enter saves, Esc cancels." +
      (learned
        ? " What was learned stays, and is of the region before: show every class again, until it is recognised."
        : "");
    this.#show(true);
    this.#set({ x, y, w, h });
    this.box.focus();
  }

  #end() {
    this.#region = this.#drag = null;
    this.#show(false);
    this.button.focus();
  }

  #show(editing) {
    this.hidden = this.controls.hidden = !editing;
    this.button.setAttribute("aria-expanded", editing);
  }

  #set(region) {
    this.#region = region;
    const part = (value) => `${Math.round(100 * value)} %`;
    const { x, y, w, h } = region;
    this.box.setAttribute(
      "aria-label",
      `Region: ${part(x)} from the left, ${part(y)} from the top, ${part(w)} wide, ${part(h)} high`,
    );
    this.#place();
  }

  #place() {
    if (!this.#region) return;
    const picture = pictureOf(this.canvas);
    const origin = this.parentElement.getBoundingClientRect();
    const put = (element, left, top, width, height) => {
      for (const [name, value] of Object.entries({ left, top, width, height })) {
        element.style[name] = `${value}px`;
      }
    };
    put(this, picture.left - origin.left, picture.top - origin.top, picture.width, picture.height);
    const { x, y, w, h } = this.#region;
    put(this.box, x * picture.width, y * picture.height, w * picture.width, h * picture.height);
  }

  #at(event) {
    const { left, top, width, height } = pictureOf(this.canvas);
    const x = within((event.clientX - left) / width, 0, 1);
    return { x, y: within((event.clientY - top) / height, 0, 1) };
  }

  #press(event) {
    if (event.button !== 0 || this.#drag) return;
    event.preventDefault();
    this.box.focus();
    this.setPointerCapture(event.pointerId);
    const start = this.#at(event);
    const { x, y, w, h } = this.#region;
    const corner = event.target.dataset.corner;
    if (corner) {
      const fixed = { x: corner.includes("w") ? x + w : x, y: corner.includes("n") ? y + h : y };
      this.#drag = (now) => between(fixed, now);
    } else if (event.target === this.box && (w < 1 || h < 1)) {
      this.#drag = (now) => ({
        x: within(x + now.x - start.x, 0, 1 - w),
        y: within(y + now.y - start.y, 0, 1 - h),
        w,
        h,
      });
    } else {
      this.#drag = (now) => between(start, now);
    }
  }

  #move(event) {
    if (this.#drag && this.#region) this.#set(this.#drag(this.#at(event)));
  }

  #key(event) {
    const { x, y, w, h } = this.#region;
    if (event.key === "Enter") this.#save();
    else if (event.key === "Escape") this.#end();
    else if (event.key.startsWith("Arrow")) {
      const step = event.ctrlKey ? FAR : STEP;
      const dx = { ArrowLeft: -step, ArrowRight: step }[event.key] ?? 0;
      const dy = { ArrowUp: -step, ArrowDown: step }[event.key] ?? 0;
      if (event.shiftKey) {
        this.#set({ x, y, w: within(w + dx, LEAST, 1 - x), h: within(h + dy, LEAST, 1 - y) });
      } else {
        this.#set({ x: within(x + dx, 0, 1 - w), y: within(y + dy, 0, 1 - h), w, h });
      }
    } else return;
    event.preventDefault();
    event.stopPropagation(); // the page has keys of its own
  }

  async #save() {
    const region = regionText(this.#region);
    if (await session.do("region", { region })) this.#end();
  }
}

customElements.define("region-editor", RegionEditor);
