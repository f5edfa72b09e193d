// The camera of the device on which the page is open, sent to the session: `--stream push://`.

import { make, session } from "./session.js";

const LONGEST_PX = 640; // as the live picture has it
const QUALITY = 0.8;
const WAIT_MS = 100; // 10 pictures a second at most: each waits for the one before
const WHY = "A browser gives its camera only to pages that come by HTTPS or from localhost. Single pictures work on any page.";

class PhoneCamera extends HTMLElement {
  #stream = null;
  #starting = false;

  connectedCallback() {
    this.video = make("video", { muted: true, playsinline: true, hidden: true });
    this.button = make("button", { type: "button", "aria-pressed": "false" }, "Use this device's camera");
    this.button.addEventListener("click", () => (this.#stream ? this.#stop() : this.#start()));
    this.field = make("input", { type: "file", accept: "image/*", capture: "environment", hidden: true });
    this.field.addEventListener("change", () => this.#one());
    this.single = make("button", { type: "button", onclick: () => this.field.click() }, "Take one picture …");
    this.text = make("p", { class: "quiet", role: "status" });
    const live = Boolean(window.isSecureContext && navigator.mediaDevices);
    this.button.hidden = !live;
    this.single.hidden = live;
    if (!live) this.text.textContent = WHY;
    this.append(this.video, make("div", { class: "line" }, this.button, this.single, this.field), this.text);
    session.addEventListener("status", () => { this.hidden = !session.status.takes_pictures; });
    window.addEventListener("pagehide", () => this.#stop());
  }

  async #start() {
    if (this.#starting) return; // the browser asks whether it may
    this.#starting = true;
    try {
      const wanted = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      const denied = error.name === "NotAllowedError";
      const why = denied ? "the browser was not allowed to: see the settings of this page" : error.message;
      session.tell(`The camera cannot be used: ${why}`, { bad: true });
      return;
    } finally {
      this.#starting = false;
    }
    const [track] = this.#stream.getVideoTracks();
    track.addEventListener("ended", () => this.#stop()); // unplugged, or another program took it
    this.video.srcObject = this.#stream;
    await this.video.play();
    this.button.textContent = "Stop this device's camera";
    this.button.setAttribute("aria-pressed", "true");
    this.#send(this.#stream);
  }

  #stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.video.srcObject = null;
    this.button.textContent = "Use this device's camera";
    this.button.setAttribute("aria-pressed", "false");
    this.text.textContent = "";
  }

  // Sends one picture after the other, for as long as this camera runs.
  async #send(stream) {
    while (this.#stream === stream) {
      const began = performance.now();
      const sent = session.connected && !document.hidden && (await push(await jpegOf(this.video)));
      this.text.textContent = sent ? "Sending pictures" : "Waiting to send pictures";
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, WAIT_MS - performance.now() + began)));
    }
  }

  async #one() {
    const [file] = this.field.files;
    this.field.value = "";
    if (!file) return;
    try {
      const sent = await push(await jpegOfFile(file));
      this.text.textContent = sent ? `${WHY} One was sent.` : `${WHY} It was not sent.`;
    } catch {
      session.tell(`${file.name} is no picture that this browser knows`, { bad: true });
    }
  }
}

// Returns what an element or a bitmap shows as JPEG; null if there is nothing yet.
async function jpegOf(source) {
  const width = source.videoWidth ?? source.width;
  const height = source.videoHeight ?? source.height;
  if (!width || !height) return null;
  const scale = Math.min(1, LONGEST_PX / Math.max(width, height));
  const side = (px) => Math.max(1, Math.round(px * scale));
  const canvas = make("canvas", { width: side(width), height: side(height) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // shows through what is cut out
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

// Returns the picture in a file, as small; rejects where the browser cannot read it.
export async function jpegOfFile(file) {
  const bitmap = await createImageBitmap(file);
  return jpegOf(bitmap).finally(() => bitmap.close()); // 48 MB, of a phone
}

// Sends a JPEG; returns whether it was taken.
async function push(body) {
  if (!body) return false;
  try {
    const response = await fetch("api/v1/push", { method: "POST", headers: { "Content-Type": "image/jpeg" }, body });
    return response.ok;
  } catch {
    return false;
  }
}

customElements.define("phone-camera", PhoneCamera);
