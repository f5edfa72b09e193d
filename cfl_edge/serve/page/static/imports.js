// Pictures from elsewhere: a ZIP archive with one folder for each class.

import { make, session } from "./session.js";

const MOST_BYTES = 128 * 2 ** 20; // what the server takes

class ZipImport extends HTMLElement {
  connectedCallback() {
    this.field = make("input", { type: "file", accept: ".zip,application/zip", hidden: true });
    this.field.addEventListener("change", () => this.#send(this.field.files[0]));
    this.button = make("button", { type: "button", onclick: () => this.field.click() }, "Import pictures …");
    this.text = make("span", { class: "quiet" }, "A ZIP file with one folder for each class");
    this.append(this.field, this.button, this.text);
    this.rest = this.text.textContent;
    session.addEventListener("status", () => this.#show(session.status.import));
    session.addEventListener("connection", () => { this.button.disabled = !session.connected; });
  }

  #show(progress) {
    this.button.disabled = Boolean(progress) || !session.connected;
    let text = this.rest;
    if (progress) text = progress.of ? `${progress.done} of ${progress.of} pictures` : "Receiving the archive …";
    if (this.text.textContent !== text) this.text.textContent = text;
  }

  async #send(file) {
    this.field.value = ""; // the same file may come again
    if (!file) return;
    if (file.size > MOST_BYTES) {
      session.tell(`${file.name} has more than ${MOST_BYTES / 2 ** 20} MiB: send several, or smaller pictures`, { bad: true });
      return;
    }
    await session.do("import", file, { type: "application/zip" });
  }
}

customElements.define("zip-import", ZipImport);
