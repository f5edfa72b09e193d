// The review tray: frames that are worth a second look, each labelled or dropped by one gesture.

import { chooseClass } from "./dialogs.js";
import { make, percent, session } from "./session.js";

class ReviewTray extends HTMLElement {
  #cards = new Map();

  connectedCallback() {
    this.list = make("ul");
    this.append(this.list);
    session.addEventListener("status", () => this.#show());
  }

  #show() {
    const doubts = session.status.review ?? [];
    this.closest("section").hidden = doubts.length === 0;
    const guesses = new Map(doubts.map(({ frame, guess }) => [frame, String(guess)]));
    for (const [frame, card] of this.#cards) {
      if (guesses.get(frame) === card.dataset.guess) continue;
      card.remove(); // decided, or its class has another name by now
      this.#cards.delete(frame);
    }
    doubts.forEach((doubt, place) => {
      if (!this.#cards.has(doubt.frame)) this.#cards.set(doubt.frame, this.#card(doubt));
      const card = this.#cards.get(doubt.frame);
      const there = this.list.children[place];
      if (there !== card) this.list.insertBefore(card, there ?? null);
    });
  }

  #card({ frame, why, guess, score }) {
    const decide = (label) => session.do("review", { frame, label }, { undo: label !== null });
    const other = async () => {
      const label = await chooseClass("This is", { except: null });
      if (label !== null) decide(label);
    };
    const button = (text, act, hint) =>
      make("button", { type: "button", "aria-label": `${hint}, frame ${frame}`, onclick: act },
        make("span", { class: "clamp" }, text));
    return make(
      "li",
      { "data-guess": String(guess) },
      make("img", { src: `api/v1/review/${frame}.png`, alt: `Frame ${frame}`, width: 96, height: 96 }),
      make("p", { class: "facts" }, score === null ? why : `${guess}, ${percent(score)}: ${why}`),
      ...(guess ? [button(guess, () => decide(guess), `${guess} is right`)] : []),
      button("Other …", other, "Other … class"),
      button("Drop", () => decide(null), "Drop it"),
    );
  }
}

customElements.define("review-tray", ReviewTray);
