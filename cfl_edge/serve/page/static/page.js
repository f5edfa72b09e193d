// The page: connects what it is made of to the session.

import "./picture.js";
import "./classes.js";
import "./trays.js";
import { make, session } from "./session.js";

const NOTE_MS = 6000;
const MOST_NOTES = 3;

const at = (id) => document.getElementById(id);

session.addEventListener("note", ({ detail: { text, bad, undo } }) => {
  const note = make("p", { class: bad ? "note bad" : "note" }, text);
  if (undo) {
    const button = make("button", { type: "button" }, "Undo");
    button.addEventListener("click", () => {
      note.remove();
      session.do("undo", { hold: true });
    });
    note.append(button);
  }
  at("notes").append(note);
  while (at("notes").children.length > MOST_NOTES) at("notes").firstChild.remove();
  setTimeout(() => note.remove(), bad ? 2 * NOTE_MS : NOTE_MS);
});

session.addEventListener("connection", () => {
  const text = session.locked
    ? "This page needs its token: open the address that the terminal shows, or scan its code."
    : "Connection lost. It comes back by itself; nothing is learned meanwhile.";
  at("connection").textContent = session.connected ? "" : text;
  document.body.classList.toggle("offline", !session.connected);
  for (const id of ["pause", "undo", "export", "save"]) at(id).disabled = !session.connected;
});

session.addEventListener("status", () => {
  const { paused, model } = session.status;
  at("model").textContent = model ?? "";
  at("pause").setAttribute("aria-pressed", Boolean(paused));
  at("pause").textContent = paused ? "Resume learning" : "Pause learning";
});

at("pause").addEventListener("click", () => session.do(session.status?.paused ? "resume" : "pause"));
at("undo").addEventListener("click", () => session.do("undo", { hold: true }));
at("save").addEventListener("click", () => session.do("save"));
at("export").addEventListener("click", async () => {
  at("export").disabled = true;
  at("export").textContent = "Writing the model …";
  const done = await session.do("export");
  at("export").textContent = "Download model.onnx";
  at("export").disabled = false;
  if (done) make("a", { href: "api/v1/model.onnx", download: "model.onnx" }).click();
});

session.start();
