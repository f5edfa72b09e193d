// The classes as cards: hold to teach, rename, merge, remove.

import { chooseClass, confirmed } from "./dialogs.js";
import { colour, make, percent, session, removeElement } from "./session.js";

const NOTHING = "nothing there";
const DRAGGED = "application/x-cfl-edge-class";

// Makes a button that teaches while it is held: by pointer, touch or key, or pressed once by a
// screen reader and once more to stop.
function holdButton(name, text) {
  const button = make("button", { type: "button", class: "hold", "aria-pressed": "false" }, text);
  let handled = false;
  let pressed = null; // the class that this button holds: another one may take over
  const press = () => {
    pressed = name();
    session.press(pressed);
  };
  const release = () => {
    session.release(pressed);
    pressed = null;
  };
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    handled = true;
    button.setPointerCapture(event.pointerId);
    press();
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture", "keyup", "blur"]) {
    button.addEventListener(kind, release);
  }
  button.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault(); // no click follows
    if (!event.repeat) press();
  });
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    if (!handled) {
      if (pressed !== null && session.holding === pressed) release();
      else press();
    }
    handled = false;
  });
  return button;
}

const SVG = "http://www.w3.org/2000/svg";

// A line of shares over time, in as little room as a word.
function chart() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "-2 -2 64 22");
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  svg.append(document.createElementNS(SVG, "polyline"));
  return svg;
}

function draw(svg, shares) {
  svg.toggleAttribute("hidden", shares.length < 2);
  const step = 60 / Math.max(1, shares.length - 1);
  const points = shares.map((share, place) => `${(place * step).toFixed(1)},${(18 - 18 * share).toFixed(1)}`);
  svg.firstChild.setAttribute("points", points.join(" "));
  svg.setAttribute("aria-label", `Right over time: ${shares.map(percent).join(", ")}`);
}

class ClassCard extends HTMLElement {
  constructor(name) {
    super();
    this.name = name;
  }

  connectedCallback() {
    if (this.title_) return;
    this.draggable = false;
    this.swatch = make("span", { class: "swatch", "aria-hidden": "true" });
    this.title_ = make("button", { type: "button", class: "name" }, make("span", { class: "clamp" }));
    this.title_.addEventListener("click", () => this.rename());
    this.field = make("input", { maxlength: 64, "aria-label": "Name of the class", hidden: true });
    this.field.addEventListener("keydown", (event) => {
      event.stopPropagation(); // digits here are letters of a name
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // a question that comes up is not answered by this key
      this.#finish(event.key === "Enter");
    });
    this.field.addEventListener("blur", () => this.#finish(true));
    this.key = make("kbd", { "aria-hidden": "true" });
    this.facts = make("p", { class: "facts" });
    this.chart = chart();
    this.pictures = make("div", { class: "pictures" });
    this.hold = holdButton(() => this.name, "Hold to teach");
    const head = make("div", { class: "head", draggable: "true" }, this.swatch, this.title_, this.field, this.key, this.#menu());
    head.addEventListener("dragstart", (event) => event.dataTransfer.setData(DRAGGED, this.name));
    this.append(head, this.pictures, make("div", { class: "fared" }, this.facts, this.chart), this.hold);
    this.addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes(DRAGGED)) return;
      event.preventDefault();
      this.classList.add("target");
    });
    this.addEventListener("dragleave", () => this.classList.remove("target"));
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      this.classList.remove("target");
      merge(event.dataTransfer.getData(DRAGGED), this.name);
    });
  }

  #menu() {
    const entries = [
      ["Rename", () => this.rename()],
      ["Merge into …", () => this.#mergeInto()],
      ["Remove", () => this.#remove()],
    ].map(([text, act]) =>
      make("button", { type: "button", onclick: () => { this.menu.open = false; this.summary.focus(); act(); } }, text),
    );
    this.summary = make("summary", {}, make("span", { "aria-hidden": "true" }, "⋯"));
    this.menu = make("details", { class: "menu" }, this.summary, make("div", {}, ...entries));
    this.menu.addEventListener("focusout", (event) => {
      if (!this.menu.contains(event.relatedTarget)) this.menu.open = false;
    });
    this.menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.menu.open = false;
      this.summary.focus();
    });
    return this.menu;
  }

  show({ name, samples, recent_accuracy, accuracy_over_time = [] }, place, frames, advice) {
    this.name = name;
    this.swatch.style.background = colour(place); // as beside its answers
    this.title_.firstChild.textContent = name;
    this.title_.title = `Rename ${name}`;
    this.summary.setAttribute("aria-label", `More for ${name}`);
    this.key.textContent = place < 9 ? place + 1 : "";
    const right = recent_accuracy === null || recent_accuracy === undefined
      ? "" : ` · ${percent(recent_accuracy)}\u00a0right`;
    this.facts.textContent = `${samples} ${samples === 1 ? "sample" : "samples"}${right}`;
    if (advice) this.facts.append(make("span", { class: "advice" }, ` – ${advice}`));
    draw(this.chart, accuracy_over_time);
    this.#showPictures(frames);
    this.mark();
  }

  #showPictures(frames) {
    const here = new Map([...this.pictures.children].map((image) => [image.dataset.frame, image]));
    const images = frames.map((frame) => {
      const image = here.get(String(frame)); // those that stay are not loaded again
      const src = `api/v1/thumbnails/${frame}.jpg`;
      return image ?? make("img", { src, alt: "", width: 56, height: 56, "data-frame": frame });
    });
    if (images.some((image, place) => this.pictures.children[place] !== image)
      || images.length !== here.size) this.pictures.replaceChildren(...images);
  }

  mark() {
    const held = session.hold?.label === this.name || session.holding === this.name;
    this.classList.toggle("held", held);
    this.hold.setAttribute("aria-pressed", held);
    this.hold.setAttribute("aria-label", `Hold to teach: ${this.name}`);
  }

  #edit(text) {
    this.title_.hidden = true;
    this.field.hidden = false;
    this.field.value = text;
    this.before = this.name;
  }

  rename() {
    this.#edit(this.name);
    this.field.focus();
    this.field.select();
  }

  async #finish(wanted) {
    if (this.field.hidden) return;
    const here = this.field === document.activeElement; // the focus goes nowhere else
    this.field.hidden = true;
    this.title_.hidden = false;
    if (here) this.title_.focus();
    const to = this.field.value.trim();
    // A name that was not changed here undoes no rename by somebody else.
    if (!wanted || !to || to === this.name || to === this.before) return;
    const there = session.classes.find(({ name }) => name.normalize("NFC") === to.normalize("NFC"));
    if (there) await merge(this.name, there.name, `There is a class ${there.name} already. `);
    else if (!(await session.do("rename", { name: this.name, to }))) {
      this.#edit(to); // a note says why it was refused: it can be changed
      if (here) this.field.focus();
    }
  }

  async #mergeInto() {
    const { name } = this; // the card may be another class's once it is answered
    const into = await chooseClass(`Merge ${name} into`, { except: name, create: false });
    if (into !== null) await merge(name, into);
  }

  async #remove() {
    const { name } = this;
    const text = "All that was learned of it is forgotten, and undo cannot bring it back.";
    if (await confirmed(`Remove ${name}?`, text, "Remove")) await session.do("remove", { name });
  }
}

async function merge(name, into, why = "") {
  if (!name || name === into) return;
  const text = `${why}What was learned of ${name} counts as ${into} from now on. Undo cannot part them again.`;
  if (await confirmed(`Merge ${name} into ${into}?`, text, "Merge")) {
    await session.do("merge", { names: [name, into], into });
  }
}

class ClassList extends HTMLElement {
  #cards = new Map();
  #fresh = null; // a class that this page has just made: its name is still to be typed

  connectedCallback() {
    this.cards = make("div", { class: "cards" });
    this.first = make("div", { class: "proposal" });
    this.verdict = make("p", { class: "quiet verdict" });
    this.append(this.verdict, this.cards, this.first);
    this.#propose();
    session.addEventListener("status", () => this.#show());
    for (const kind of ["hold", "frame"]) {
      session.addEventListener(kind, () => this.#mark());
    }
    session.addEventListener("hold", () => queueMicrotask(() => this.#nameIt())); // once another is held
    this.#listenToKeys();
  }

  #show() {
    const { classes } = session;
    const verdict = session.status.verdict ?? "";
    if (this.verdict.textContent !== verdict) this.verdict.textContent = verdict;
    const thumbnails = session.status.thumbnails ?? {};
    const names = new Set(classes.map(({ name }) => name));
    const missing = [...this.#cards.keys()].filter((name) => !names.has(name));
    const added = classes.filter(({ name }) => !this.#cards.has(name));
    const card = this.#cards.get(missing[0]);
    if (missing.length === 1 && added.length === 1 && classes.length === this.#cards.size
      && this.cards.children[classes.indexOf(added[0])] === card) {
      // A class that was renamed keeps its place and its card, and with it the focus.
      this.#cards.delete(missing[0]);
      this.#cards.set(added[0].name, card);
    } else {
      for (const name of missing) {
        removeElement(this.#cards.get(name));
        this.#cards.delete(name);
      }
    }
    classes.forEach((one, place) => {
      let card = this.#cards.get(one.name);
      if (!card) {
        card = new ClassCard(one.name);
        this.#cards.set(one.name, card);
      }
      if (this.cards.children[place] !== card) {
        this.cards.insertBefore(card, this.cards.children[place] ?? null);
      }
      card.show(one, place, thumbnails[one.name] ?? [], session.status.advice?.[one.name]);
    });
    this.#propose();
    this.#nameIt();
  }

  #mark() {
    for (const card of this.#cards.values()) card.mark();
  }

  #nameIt() {
    const card = this.#cards.get(this.#fresh);
    // The server has not told of it yet, or a class is held: the focus would end that.
    if (!card || session.holding !== null) return;
    this.#fresh = null;
    card.rename();
  }

  // What to teach next: something at first, then the view without it, then whatever comes.
  #propose() {
    const count = session.classes.length;
    const kind = count === 0 ? "first" : count === 1 ? "second" : "more";
    if (kind === this.kind || session.holding !== null) return;
    this.kind = kind;
    const another = holdButton(() => this.#newName(), count ? "Hold to teach something new" : "Hold to teach");
    const parts = [];
    if (kind === "first") {
      parts.push(
        make("h3", {}, "Show something to the camera"),
        make("p", {}, "Hold the button for a few seconds and turn the thing a little. Give it a name afterwards."),
        another,
      );
      another.classList.add("main");
    } else if (kind === "second") {
      const nothing = holdButton(() => NOTHING, `Hold to teach “${NOTHING}”`);
      nothing.classList.add("main");
      parts.push(
        make("h3", {}, "Now take it away"),
        make("p", {}, "With one class, everything looks like it. Teach the view without the thing as the second."),
        nothing,
        another,
      );
    } else {
      parts.push(another);
    }
    this.first.className = `proposal ${kind}`;
    this.first.replaceChildren(...parts);
  }

  #newName() {
    if (this.#fresh && session.holding === this.#fresh) return this.#fresh;
    const names = new Set(session.classes.map(({ name }) => name));
    let number = names.size + 1;
    while (names.has(`thing ${number}`)) number += 1;
    this.#fresh = `thing ${number}`;
    return this.#fresh;
  }

  #listenToKeys() {
    const typing = (event) => event.target.closest?.("input, select, dialog") || event.ctrlKey || event.altKey || event.metaKey;
    let key = null;
    let held = null;
    document.addEventListener("keydown", (event) => {
      if (event.repeat || typing(event) || !/^[1-9]$/.test(event.key)) return;
      const one = session.classes[Number(event.key) - 1];
      if (!one) return;
      [key, held] = [event.key, one.name];
      session.press(held);
    });
    document.addEventListener("keyup", (event) => {
      if (event.key !== key) return;
      session.release(held);
      key = null;
    });
  }
}

customElements.define("class-card", ClassCard);
customElements.define("class-list", ClassList);
