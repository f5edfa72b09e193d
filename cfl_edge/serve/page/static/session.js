// The session on the other side: one WebSocket for what it sees, requests for what it should do.

const TAP_MS = 400; // shorter presses teach next to nothing
const BEAT_MS = 300; // the server stops learning 1 s after the last beat
const RETRY_MS = [300, 700, 1500, 3000];
const WATCH_MS = 1000; // the server says something as often, pictures or not
const LOST_MS = 5000; // without a word from it: a network that is gone tells nobody
const LOST_PICTURE_MS = 10000; // the same with a picture on its way: the server waits as long

export class Session extends EventTarget {
  #socket = null;
  #tries = 0;
  #retry = 0;
  #beat = 0;
  #since = 0;
  #heard = 0; // when the server said something, or was called
  #message = null; // the text whose picture is on its way
  status = null;
  frame = null;
  hold = null; // what the server says is held: {label, mine}
  holding = null; // the class that this page holds
  connected = false;
  locked = false; // the server wants a token
  refused = false; // it answers, but lets nobody watch

  start() {
    this.#connect();
    document.addEventListener("visibilitychange", () => {
      this.#send({ pictures: !document.hidden });
      if (document.hidden) this.release();
      else if (!this.connected) this.#connectNow();
    });
    setInterval(() => this.#watch(), WATCH_MS);
    window.addEventListener("online", () => this.#connectNow());
    window.addEventListener("blur", () => this.release());
    window.addEventListener("pagehide", () => this.release());
  }

  #connectNow() {
    if (this.connected || this.#socket) return;
    clearTimeout(this.#retry);
    this.#connect();
  }

  #connect() {
    if (this.#socket) return; // the network came back before the next try
    const address = new URL("api/v1/live", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.binaryType = "blob";
    socket.onopen = () => {
      this.#tries = 0;
      this.connected = true;
      this.locked = this.refused = false;
      if (document.hidden) this.#send({ pictures: false });
      this.#tell("connection");
    };
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = () => this.#lost();
    this.#socket = socket;
    this.#heard = performance.now();
  }

  // Gives up on a server that neither speaks nor hangs up, and calls it again.
  #watch() {
    const patience = this.#message ? LOST_PICTURE_MS : LOST_MS;
    if (!this.#socket || performance.now() - this.#heard < patience) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#lost();
  }

  async #lost() {
    this.#socket = null;
    this.#message = null;
    const was = this.connected;
    this.connected = false;
    this.release();
    if (!was && !this.locked) await this.#askWhy();
    const wait = RETRY_MS[Math.min(this.#tries++, RETRY_MS.length - 1)];
    this.#retry = setTimeout(() => this.#connect(), wait);
    this.#tell("connection");
  }

  async #askWhy() {
    try {
      const answer = await fetch("api/v1/frame.jpg", {
        cache: "no-store",
        signal: AbortSignal.timeout(LOST_MS),
      });
      this.locked = answer.status === 401;
      this.refused = answer.ok && this.#tries > 1; // a server that has just started lets us in soon
    } catch {
      this.locked = this.refused = false; // nobody answers: the board restarts, or the network is gone
    }
  }

  async #take(data) {
    this.#heard = performance.now();
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.status) this.status = message.status;
      this.hold = message.hold;
      if (message.refused) {
        this.release();
        this.tell(message.refused, { bad: true });
      }
      this.frame = message.frame ?? this.frame;
      this.silent = !message.frame;
      if (message.status) this.#tell("status");
      this.#tell("frame");
      if (message.frame && message.picture) this.#message = message;
      else this.#send({ ack: message.number });
      return;
    }
    const { number } = this.#message;
    this.#message = null;
    try {
      this.picture = await createImageBitmap(data);
      this.#tell("picture");
    } finally {
      this.#send({ ack: number }); // only now comes the next one
    }
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  // Shows a sentence to people; `undo` is what takes it back, a verb and its arguments.
  tell(text, { bad = false, undo = null } = {}) {
    this.#tell("note", { text, bad, undo });
  }

  view(name) {
    this.#send({ view: name });
  }

  press(label) {
    if (this.holding === label) return;
    this.release();
    if (!this.connected) {
      this.tell("Not connected: nothing is learned", { bad: true });
      return;
    }
    if (this.status?.paused) {
      this.tell("Learning is paused: resume it to teach by holding", { bad: true });
      return;
    }
    this.holding = label;
    this.#since = performance.now();
    this.#send({ hold: label });
    this.#beat = setInterval(() => this.#send({ hold: label }), BEAT_MS);
    this.#tell("hold");
  }

  // Lets go of a class, or of whichever is held.
  release(of = this.holding) {
    if (this.holding === null || this.holding !== of) return;
    clearInterval(this.#beat);
    this.holding = null;
    this.#send({ release: true });
    this.#tell("hold");
    if (this.connected && performance.now() - this.#since < TAP_MS) {
      this.tell("Keep the button down for as long as the camera sees it");
    }
  }

  // Asks for a verb; returns its answer, or null once people were told why not. `undo` makes of the
  // answer what takes it back.
  async do(verb, args = {}, { undo = () => null, quiet = false, type = "application/json" } = {}) {
    try {
      const response = await fetch(`api/v1/${verb}`, {
        method: "POST",
        headers: { "Content-Type": type },
        body: type === "application/json" ? JSON.stringify(args) : args,
      });
      const answer = await response.json();
      if (!response.ok) {
        const hint = answer.hint?.includes("cfl-edge ") ? "" : answer.hint; // that is for a terminal
        this.tell(hint ? `${answer.error}. Try: ${hint}` : answer.error, { bad: true });
        return null;
      }
      if (!quiet) this.tell(answer.said, { undo: undo(answer) });
      return answer;
    } catch {
      this.tell("No answer from the camera's program: look whether it was done", { bad: true });
      return null;
    }
  }

  get classes() {
    return this.status?.classes ?? [];
  }
}

export const session = new Session();

// What takes back a frame or picture that was just labelled, and nothing that was learned since.
export const forgetIt = ({ frame, learned, moved }) =>
  learned && !moved ? ["forget", { frames: [frame] }] : null;

// Returns an element: make("button", {type: "button"}, "Undo").
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children); // as text: a class may have any name
  return element;
}

// Removes an element; the focus goes to its neighbour, so that a keyboard stays where it was.
export function removeElement(element) {
  const next = element.contains(document.activeElement)
    && (element.nextElementSibling ?? element.previousElementSibling);
  element.remove();
  if (next) next.querySelector("button")?.focus();
}

export function percent(share) {
  return share === null || share === undefined ? "–" : `${Math.round(100 * share)}\u00a0%`;
}

const HUES = [212, 28, 145, 330, 48, 265, 180, 0, 95, 300];

// The colour of a class: always beside its name, never instead of it.
export function colour(index) {
  return `hsl(${HUES[index % HUES.length]} 55% 50%)`;
}
