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
    const frames = new Set(doubts.map(({ frame }) => frame));
    for (const [frame, card] of this.#cards) {
      if (frames.has(frame)) continue;
      card.remove();
      this.#cards.delete(frame);
    }
    for (const doubt of doubts.toReversed()) {
      if (this.#cards.has(doubt.frame)) continue;
      const card = this.#card(doubt);
      this.#cards.set(doubt.frame, card);
      this.list.prepend(card);
    }
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
      {},
      make("img", { src: `api/v1/review/${frame}.png`, alt: `Frame ${frame}`, width: 96, height: 96 }),
      make("p", { class: "facts" }, score === null ? why : `${guess}, ${percent(score)}: ${why}`),
      ...(guess ? [button(guess, () => decide(guess), `${guess} is right`)] : []),
      button("Other …", other, "Other … class"),
      button("Drop", () => decide(null), "Drop it"),
    );
  }
}

customElements.define("review-tray", ReviewTray);
