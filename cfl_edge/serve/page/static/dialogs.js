// Questions: which class, and whether one really means it.

import { make, session } from "./session.js";

// Shows a dialog; returns the value of the button that was chosen, null for none.
function ask(title, ...content) {
  const dialog = make("dialog", { "aria-labelledby": "question" }, make("h2", { id: "question" }, title));
  const form = make("form", { method: "dialog" }, ...content);
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close("");
    });
  });
}

// Asks for a class, or the name of a new one.
export async function chooseClass(title, { except = null, create = true } = {}) {
  const names = session.classes.map(({ name }) => name).filter((name) => name !== except);
  const buttons = names.map((name) =>
    make("button", { value: `=${name}`, class: "choice", formnovalidate: true }, name),
  );
  const content = [make("div", { class: "choices" }, ...buttons)];
  if (create) {
    const field = make("input", {
      maxlength: 64, id: "new-name", autocomplete: "off", required: true, pattern: ".*\\S.*",
      title: "A name with a letter or a digit in it",
    });
    const add = make("button", { value: "new", class: "main" }, "Teach it");
    content.push(
      make("label", { for: "new-name" }, names.length ? "or something new" : "something new"),
      make("div", { class: "line" }, field, add),
    );
    content.push(make("button", { value: "", formnovalidate: true }, "Cancel"));
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      add.click();
    });
    const choice = await ask(title, ...content);
    if (choice === "new") return field.value.trim() || null;
    return still(choice);
  }
  content.push(make("button", { value: "" }, "Cancel"));
  return still(await ask(title, ...content));
}

// Returns the class that was chosen; null for none, or if it has no such name any more.
function still(choice) {
  const name = choice && choice.slice(1);
  if (name === null || session.classes.some((one) => one.name === name)) return name;
  session.tell(`There is no class ${name} any more: somebody renamed, merged or removed it`, { bad: true });
  return null;
}

export async function confirmed(title, text, action) {
  const choice = await ask(
    title,
    make("p", {}, text),
    make(
      "div",
      { class: "line" },
      make("button", { value: "", autofocus: true }, "Cancel"),
      make("button", { value: "yes", class: "danger" }, action),
    ),
  );
  return choice === "yes";
}
