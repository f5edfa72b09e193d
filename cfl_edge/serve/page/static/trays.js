// The tray: labels that may be wrong, and frames worth a second look. One gesture decides each.

import { chooseClass } from "./dialogs.js";
import { forgetIt, make, percent, session, removeElement } from "./session.js";

// Where cards come from, in their order: what each says, and the classes that one press chooses, as
// the text of a button, the class, and what a screen reader says.
const SOURCES = {
  mislabelled: {
    picture: (frame) => `api/v1/thumbnails/${frame}.jpg`,
    says: ({ frames, label, looks_like }) =>
      `${frames > 1 ? `${frames} frames` : "1 frame"} learned as ${label}; the others say ${looks_like}`,
    choices: ({ label, looks_like }) => [
      [`Keep ${label}`, label, `Keep ${label}`],
      [looks_like, looks_like, `It is ${looks_like}`],
    ],
  },
  review: {
    picture: (frame) => `api/v1/review/${frame}.png`,
    says: ({ why, guess, score }) => (score === null ? why : `${guess}, ${percent(score)}: ${why}`),
    choices: ({ guess }) => (guess ? [[guess, guess, `${guess} is right`]] : []),
    undo: forgetIt,
  },
};

const FIRST_PICTURE = 2 ** 52; // those that were imported are numbered from here

const named = (frame) => (frame < FIRST_PICTURE ? `frame ${frame}` : `picture ${frame - FIRST_PICTURE + 1}`);

class ReviewTray extends HTMLElement {
  #cards = new Map();

  connectedCallback() {
    this.list = make("ul");
    this.append(this.list);
    session.addEventListener("status", () => this.#show());
  }

  #show() {
    const items = Object.keys(SOURCES).flatMap((source) =>
      (session.status[source] ?? []).map((item) => ({ ...item, source })));
    const faces = new Map(items.map((item) => [JSON.stringify(item), item]));
    this.closest("section").hidden = items.length === 0;
    const stale = [...this.#cards].filter(([face]) => !faces.has(face));
    const isStale = (element) => stale.some(([, card]) => card === element);
    let there = this.list.firstElementChild;
    for (const [face, item] of faces) {
      while (there && isStale(there)) there = there.nextElementSibling;
      if (!this.#cards.has(face)) this.#cards.set(face, card(item));
      if (there === this.#cards.get(face)) there = there.nextElementSibling;
      else this.list.insertBefore(this.#cards.get(face), there);
    }
    for (const [face, card] of stale) {
      removeElement(card); // decided, or its class has another name by now; the focus goes to one that stays
      this.#cards.delete(face);
    }
  }
}

function card(item) {
  const { source, frame } = item;
  const { picture, says, choices, undo } = SOURCES[source];
  let decided = false; // a double click decides once
  const decide = async (label) => {
    if (decided) return;
    decided = true;
    decided = Boolean(await session.do(source, { frame, label }, { undo }));
  };
  const other = async () => {
    const label = await chooseClass("This is");
    if (label !== null) decide(label);
  };
  const button = (text, act, hint) =>
    make("button", { type: "button", "aria-label": `${hint}, ${named(frame)}`, onclick: act },
      make("span", { class: "clamp" }, text));
  return make("li", {},
    make("img", { src: picture(frame), alt: named(frame), width: 96, height: 96 }),
    make("p", { class: "facts", title: says(item) }, make("span", { class: "clamp" }, says(item))),
    ...choices(item).map(([text, label, hint]) => button(text, () => decide(label), hint)),
    button("Other …", other, "Other … class"),
    button("Drop", () => decide(null), "Drop it"));
}

customElements.define("review-tray", ReviewTray);
