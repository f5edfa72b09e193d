// Where it looks: the places of the model's view that speak for a class, drawn over it.

import { make, session } from "./session.js";

const EVERY_MS = 500; // between two questions to the session
const OPACITY = 0.75; // of the place that speaks most for the class

// Offers names in a select below a first entry for none of them; what is chosen stays.
function list(select, first, names) {
  const shown = [...select.options].slice(1).map(({ value }) => value.slice(1));
  if (select.options.length && names.join("\n") === shown.join("\n")) return;
  const { value } = select;
  const options = names.map((name) => make("option", { value: `=${name}` }, name));
  select.replaceChildren(make("option", { value: "" }, first), ...options);
  select.value = names.includes(value.slice(1)) ? value : "";
}

class LookMap extends HTMLElement {
  #asked = 0;
  #waits = false;
  #rows = null;
  on = false;

  // Hands over what shows the model's view, on which alone the places are known.
  connect(showModel) {
    this.button = make("button", { type: "button", "aria-pressed": "false" }, "Where it looks");
    this.button.addEventListener("click", () => (this.on ? this.stop() : this.#start(showModel)));
    this.choice = make("select", { id: "look-for" });
    this.layer = make("select", { id: "look-in" });
    this.append(
      make("label", { for: "look-for" }, "Places that speak for"), this.choice,
      make("label", { for: "look-in" }, "in"), this.layer,
    );
    this.hidden = true;
    list(this.layer, "all layers", []);
    session.addEventListener("status", () => this.#list());
    session.addEventListener("frame", () => this.#ask());
  }

  #start(showModel) {
    this.on = true;
    this.#list();
    this.#show();
    showModel();
  }

  stop() {
    this.on = false;
    this.#rows = null;
    this.#show();
  }

  #show() {
    this.hidden = !this.on;
    this.button.setAttribute("aria-pressed", this.on);
  }

  #list() {
    list(this.choice, "its answer", session.classes.map(({ name }) => name));
  }

  async #ask() {
    const now = performance.now();
    if (!this.on || this.#waits || !session.connected || now - this.#asked < EVERY_MS) return;
    this.#waits = true;
    this.#asked = now;
    const [label, layer] = [this.choice, this.layer].map(({ value }) => (value ? value.slice(1) : null));
    const answer = await session.do("attention", { label, layer }, { quiet: true });
    this.#waits = false;
    this.#rows = answer?.rows ?? null;
    if (answer) list(this.layer, "all layers", answer.layers);
    if (!answer && this.on) this.stop(); // people were told why
  }

  draw(canvas) {
    if (!this.on || !this.#rows || canvas.width !== canvas.height) return;
    const drawing = canvas.getContext("2d");
    const side = canvas.width / this.#rows.length;
    this.#rows.forEach((row, y) => row.forEach((share, x) => {
      drawing.fillStyle = `rgb(255 120 0 / ${OPACITY * share})`;
      drawing.fillRect(x * side, y * side, side, side);
    }));
  }
}

customElements.define("look-map", LookMap);
