// Pictures from elsewhere: a folder or a ZIP archive, with one folder for each class in it.

import { jpegOfFile } from "./phone.js";
import { make, session } from "./session.js";
import { zipped } from "./zip.js";

const MOST_BYTES = 128 * 2 ** 20; // what the server takes
const MOST_PICTURES = 2000;

class PictureImport extends HTMLElement {
  #reading = ""; // how far a folder is read

  connectedCallback() {
    const field = (attributes, take) => {
      const input = make("input", { type: "file", hidden: true, ...attributes });
      input.addEventListener("change", async () => {
        const files = [...input.files];
        input.value = ""; // the same may come again
        if (files.length) await take.call(this, files);
      });
      return input;
    };
    const folder = field({ webkitdirectory: true }, this.#takeFolder);
    const archive = field({ accept: ".zip,application/zip" }, ([file]) => this.#send(file, file.name));
    this.buttons = [["Import a folder …", folder], ["Import a ZIP file …", archive]]
      .map(([text, input]) => make("button", { type: "button", onclick: () => input.click() }, text));
    this.buttons[0].hidden = !("webkitdirectory" in folder);
    this.rest = "Pictures, one folder for each class";
    this.text = make("span", { class: "quiet", role: "status" }, this.rest);
    this.append(folder, archive, ...this.buttons, this.text);
    for (const kind of ["status", "connection"]) session.addEventListener(kind, () => this.#show());
  }

  #show() {
    const progress = session.status?.import;
    let text = this.#reading || this.rest;
    if (progress) text = progress.of ? `${progress.done} of ${progress.of} pictures` : "Receiving the archive …";
    if (this.text.textContent !== text) this.text.textContent = text;
    for (const button of this.buttons) button.disabled = text !== this.rest || !session.connected;
  }

  // Packs the pictures of a folder, each as small as the live picture, and sends them.
  async #takeFolder(files) {
    const paths = files.map((file) => file.webkitRelativePath.split("/"));
    const pictures = files.filter((file, place) => file.type.startsWith("image/")
      && !paths[place].some((part) => part.startsWith(".") || part === "__MACOSX"));
    const [folder] = paths[0];
    if (pictures.length > MOST_PICTURES) {
      session.tell(`${folder} holds ${pictures.length} pictures, expected at most ${MOST_PICTURES}. Try: the folder of one class after the other`, { bad: true });
      return;
    }
    try {
      await this.#sendPictures(pictures, folder);
    } catch (error) {
      session.tell(`${folder} cannot be packed: ${error.message}. Try: fewer pictures at once`, { bad: true });
    } finally {
      this.#reading = "";
      this.#show();
    }
  }

  async #sendPictures(pictures, folder) {
    const packed = [];
    for (const [place, file] of pictures.entries()) {
      this.#reading = `Reading ${place + 1} of ${pictures.length} pictures …`;
      this.#show();
      const data = await jpegOfFile(file).catch(() => null); // no picture, by its content
      const label = file.webkitRelativePath.split("/").at(-2);
      if (data) packed.push({ name: `${label}/${place}.jpg`, data });
    }
    this.#reading = "Packing the pictures …";
    this.#show();
    if (packed.length) {
      const left = pictures.length - packed.length;
      if (left) session.tell(`${left} of ${pictures.length} files of ${folder} cannot be read as pictures`, { bad: true });
      await this.#send(await zipped(packed), folder);
    } else session.tell(`${folder} holds no picture that this browser can read. Try: a folder with one folder for each class, with JPEG or PNG files in it`, { bad: true });
  }

  async #send(file, name) {
    if (file.size > MOST_BYTES) {
      session.tell(`${name} has more than ${MOST_BYTES / 2 ** 20} MiB. Try: several, or smaller pictures`, { bad: true });
      return;
    }
    await session.do("import", file, { type: "application/zip" });
  }
}

customElements.define("picture-import", PictureImport);
