// The trays: frames worth a second look, and labels that may be wrong. One gesture decides each.

import { chooseClass } from "./dialogs.js";
import { make, percent, session } from "./session.js";

class Tray extends HTMLElement {
  #cards = new Map();

  connectedCallback() {
    this.list = make("ul");
    this.append(this.list);
    session.addEventListener("status", () => this.#show(session.status[this.field] ?? []));
  }

  #show(items) {
    this.closest("section").hidden = items.length === 0;
    const faces = new Map(items.map((item) => [item.frame, this.face(item)]));
    for (const [frame, card] of this.#cards) {
      if (faces.get(frame) === card.dataset.face) continue;
      card.remove(); // decided, or its class has another name by now
      this.#cards.delete(frame);
    }
    items.forEach((item, place) => {
      if (!this.#cards.has(item.frame)) {
        this.#cards.set(item.frame, make("li", { "data-face": this.face(item) }, ...this.card(item)));
      }
      const card = this.#cards.get(item.frame);
      const there = this.list.children[place];
      if (there !== card) this.list.insertBefore(card, there ?? null);
    });
  }

  // The buttons of a card: classes that one press chooses, any other class, and none.
  choices(frame, verb, choices) {
    const decide = (label) => session.do(verb, { frame, label }, { undo: this.undoable && label !== null });
    const other = async () => {
      const label = await chooseClass("This is", { except: null });
      if (label !== null) decide(label);
    };
    const button = (text, act, hint) =>
      make("button", { type: "button", "aria-label": `${hint}, frame ${frame}`, onclick: act },
        make("span", { class: "clamp" }, text));
    return [
      ...choices.map(([text, label, hint]) => button(text, () => decide(label), hint)),
      button("Other …", other, "Other … class"),
      button("Drop", () => decide(null), "Drop it"),
    ];
  }
}

class ReviewTray extends Tray {
  field = "review";
  undoable = true; // it is the last hold then
  face = ({ guess }) => String(guess);

  card({ frame, why, guess, score }) {
    return [
      make("img", { src: `api/v1/review/${frame}.png`, alt: `Frame ${frame}`, width: 96, height: 96 }),
      make("p", { class: "facts" }, score === null ? why : `${guess}, ${percent(score)}: ${why}`),
      ...this.choices(frame, "review", guess ? [[guess, guess, `${guess} is right`]] : []),
    ];
  }
}

class MislabelledTray extends Tray {
  field = "mislabelled";
  undoable = false;
  face = ({ frames, label, looks_like }) => JSON.stringify([frames, label, looks_like]);

  card({ frame, frames, label, looks_like }) {
    const some = frames > 1 ? `${frames} frames` : "1 frame";
    return [
      make("img", { src: `api/v1/thumbnails/${frame}.jpg`, alt: `Frame ${frame}`, width: 96, height: 96 }),
      make("p", { class: "facts" }, `${some} learned as ${label}; the others say ${looks_like}`),
      ...this.choices(frame, "mislabelled", [
        [`Keep ${label}`, label, `Keep ${label}`],
        [looks_like, looks_like, `It is ${looks_like}`],
      ]),
    ];
  }
}

customElements.define("review-tray", ReviewTray);
customElements.define("mislabelled-tray", MislabelledTray);
