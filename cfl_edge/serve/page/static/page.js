// The page: connects what it is made of to the session.

import "./picture.js";
import "./classes.js";
import "./imports.js";
import "./phone.js";
import "./trays.js";
import { make, session } from "./session.js";

const NOTE_MS = 6000;
const MOST_NOTES = 3;
const ALONG = ["export", "int8", "labels", "publish", "save"];

const at = (id) => document.getElementById(id);

session.addEventListener("note", ({ detail: { text, bad, undo } }) => {
  const note = make("p", { class: bad ? "note bad" : "note" }, text);
  if (undo) {
    const button = make("button", { type: "button" }, "Undo");
    button.addEventListener("click", () => {
      note.remove();
      session.do(...undo);
    });
    note.append(button);
  }
  at("notes").append(note);
  while (at("notes").children.length > MOST_NOTES) at("notes").firstChild.remove();
  setTimeout(() => note.remove(), bad ? 2 * NOTE_MS : NOTE_MS);
});

session.addEventListener("connection", () => {
  let text = "Connection lost. It comes back by itself; nothing is learned meanwhile.";
  if (session.locked) text = "This page needs its token: open the address that the terminal shows, or scan its code.";
  if (session.refused) text = "The machine answers, but lets nobody watch: too many pages are open, or a proxy passes on no WebSockets.";
  at("connection").textContent = session.connected ? "" : text;
  document.body.classList.toggle("offline", !session.connected);
  for (const id of ["pause", "undo", ...ALONG]) at(id).disabled = !session.connected;
});

session.addEventListener("status", () => {
  const { paused, model, publishes } = session.status;
  at("publish").hidden = !publishes;
  at("model").textContent = model ?? "";
  at("pause").setAttribute("aria-pressed", Boolean(paused));
  at("pause").textContent = paused ? "Resume learning" : "Pause learning";
});

at("pause").addEventListener("click", () => session.do(session.status?.paused ? "resume" : "pause"));
let undoing = false;
at("undo").addEventListener("click", async ({ detail }) => {
  if (undoing || detail > 1) return; // a double click takes back one hold: nothing redoes it
  undoing = true;
  await session.do("undo", { hold: true });
  undoing = false;
});
at("save").addEventListener("click", () => session.do("save"));
at("publish").addEventListener("click", () => session.do("publish"));
for (const [id, verb, file] of [
  ["export", "export", "model.onnx"],
  ["int8", "export_int8", "model-int8.onnx"],
  ["labels", "export", "labels.txt"],
]) {
  const { textContent } = at(id);
  at(id).addEventListener("click", async () => {
    at(id).disabled = true;
    at(id).textContent = `Writing ${file} …`;
    const done = await session.do(verb);
    at(id).textContent = textContent;
    at(id).disabled = false;
    if (done) make("a", { href: `api/v1/${file}`, download: file }).click();
  });
}

session.start();
