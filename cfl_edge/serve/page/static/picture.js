// The live picture, what the model says of it, and the way to correct that.

import { chooseClass } from "./dialogs.js";
import "./look.js";
import "./region.js";
import { colour, forgetIt, make, percent, session } from "./session.js";

const SURE = 0.6; // below it the answer is shown as a guess

class LivePicture extends HTMLElement {
  #asModel = false;

  connectedCallback() {
    this.canvas = make("canvas", { role: "img", "aria-label": "Live picture of the camera" });
    this.badge = make("p", { class: "badge", hidden: true });
    this.name = make("strong", { class: "answer clamp" }, "Waiting for the camera");
    this.score = make("span", { class: "score" });
    this.bar = make("div", {
      class: "bar", role: "meter", "aria-label": "How sure the model is",
      "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0,
    }, make("span"));
    this.others = make("ul", { class: "others", "aria-label": "What else it looks like" });
    this.wrong = make("button", { type: "button", class: "wrong" }, "No, that is …");
    this.wrong.addEventListener("click", () => this.#correct());
    this.viewButton = make("button", { type: "button", "aria-pressed": "false" }, "Model's view");
    this.viewButton.addEventListener("click", () => this.#switchView());
    this.look = make("look-map");
    this.look.connect(() => this.#asModel || this.#switchView());
    this.region = make("region-editor");
    this.region.connect(this.canvas, () => this.#asModel && this.#switchView());
    this.figures = make("dl", { class: "figures" });
    this.append(
      make(
        "div",
        { class: "frame" },
        this.canvas,
        this.region,
        this.badge,
        make("div", { class: "says" }, make("div", { class: "line" }, this.name, this.score), this.bar),
      ),
      this.others,
      make("div", { class: "line tools" }, this.wrong, this.viewButton, this.look.button, this.region.button),
      this.look,
      this.region.controls,
      this.figures,
    );
    this.values = {};
    for (const [key, title] of [
      ["fps", "Frames per second"],
      ["learned", "Learned"],
      ["accuracy", "Right of the last 100"],
      ["dropped", "Dropped"],
      ["board", "Board"],
    ]) {
      this.values[key] = make("dd", {}, "–");
      this.figures.append(make("div", {}, make("dt", {}, title), this.values[key]));
    }
    this.values.board.parentElement.hidden = true; // until it is known
    session.addEventListener("frame", () => this.#say());
    session.addEventListener("picture", () => this.#draw());
    session.addEventListener("status", () => this.#sayBoard());
    session.addEventListener("hold", () => this.#say());
    session.addEventListener("connection", () => this.#say());
  }

  #draw() {
    const { picture } = session;
    if (this.canvas.width !== picture.width || this.canvas.height !== picture.height) {
      this.canvas.width = picture.width;
      this.canvas.height = picture.height;
    }
    const drawing = this.canvas.getContext("2d");
    drawing.drawImage(picture, 0, 0);
    picture.close();
    if (this.#asModel) this.look.draw(this.canvas);
    const part = session.frame?.looked_at; // the rest of the frame does not count
    if (part && !this.#asModel) {
      const { width, height } = this.canvas;
      drawing.lineWidth = 2;
      drawing.strokeStyle = "#fff";
      drawing.strokeRect(part[0] * width, part[1] * height, part[2] * width, part[3] * height);
    }
  }

  #say() {
    const frame = session.frame;
    this.classList.toggle("offline", !session.connected);
    const held = session.hold?.label; // as the server has it
    const teaching = session.connected && Boolean(held);
    this.classList.toggle("teaching", teaching && !session.status?.paused);
    const paused = session.status?.paused;
    this.badge.hidden = !session.connected || !(teaching || paused || session.silent);
    if (session.silent) this.badge.textContent = "No picture from the camera";
    else if (paused) this.badge.textContent = "Learning is paused";
    else if (teaching) this.badge.textContent = `Learning: ${held}`;
    if (!frame) return;
    const classes = session.classes;
    const index = classes.findIndex(({ name }) => name === frame.prediction);
    const guess = frame.score !== null && frame.score < SURE;
    let text = "Nothing taught yet";
    if (frame.rejected) text = "Unknown";
    else if (frame.prediction !== null) text = guess ? `${frame.prediction}?` : frame.prediction;
    if (this.name.textContent !== text) this.name.textContent = text;
    this.score.textContent = frame.prediction === null ? "" : percent(frame.score);
    const share = Math.round(100 * (frame.score ?? 0));
    this.bar.setAttribute("aria-valuenow", share);
    this.bar.firstChild.style.width = `${share}%`;
    this.bar.firstChild.style.background = index >= 0 ? colour(index) : "#bbb";
    this.#sayOthers(frame);
    this.wrong.disabled = frame.prediction === null || !session.connected;
    this.values.fps.textContent = frame.fps.toFixed(1);
    const learned = Object.values(frame.samples).reduce((sum, count) => sum + count, 0);
    this.values.learned.textContent = learned; // by the model now, as the cards have it
    this.values.accuracy.textContent = percent(frame.rolling_accuracy);
    this.values.dropped.textContent = frame.dropped;
  }

  // The next likeliest classes, below the answer.
  #sayOthers({ top = [], rejected }) {
    const others = rejected ? top : top.slice(1);
    while (this.others.children.length > others.length) this.others.lastChild.remove();
    while (this.others.children.length < others.length) {
      const bar = make("div", { class: "bar", "aria-hidden": "true" }, make("span"));
      this.others.append(make("li", {}, make("span", { class: "clamp" }), bar, make("span", { class: "score" })));
    }
    others.forEach(({ name, score }, place) => {
      const [text, bar, share] = this.others.children[place].children;
      text.textContent = name;
      share.textContent = percent(score);
      bar.firstChild.style.width = `${Math.round(100 * score)}%`;
      bar.firstChild.style.background = colour(session.classes.findIndex((one) => one.name === name));
    });
  }

  #sayBoard() {
    const { temperature_c: celsius } = session.status;
    this.values.board.parentElement.hidden = celsius === null || celsius === undefined;
    this.values.board.textContent = `${Math.round(celsius)} °C`;
  }

  #switchView() {
    this.#asModel = !this.#asModel;
    if (!this.#asModel) this.look.stop();
    this.viewButton.setAttribute("aria-pressed", this.#asModel);
    session.view(this.#asModel ? "model" : "camera");
  }

  async #correct() {
    const { frame, prediction, learned } = session.frame; // this one, not the one after it
    const label = await chooseClass(`This is not ${prediction}. It is`, { except: prediction });
    if (label === null) return;
    if (learned) await session.do("relabel", { label, frames: [frame] });
    else await session.do("label_frame", { label, frame }, { undo: forgetIt });
  }
}

customElements.define("live-picture", LivePicture);
