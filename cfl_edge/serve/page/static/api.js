// The API as a table, made of its OpenAPI document.

import { make } from "./session.js";

const kindOf = ({ type, anyOf = [] }) => [type ?? anyOf.map(kindOf)].flat().join(" or ");

class ApiTable extends HTMLElement {
  async connectedCallback() {
    const response = await fetch("api/v1/openapi.json");
    if (!response.ok) {
      this.append(make("p", {}, (await response.json()).error));
      return;
    }
    const { paths } = await response.json();
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, { summary, requestBody }] of Object.entries(methods)) {
        const [[kind, { schema }]] = Object.entries(requestBody?.content ?? { none: { schema: {} } });
        const names = Object.entries(schema.properties ?? {}).map(([name, one]) =>
          `${name}: ${kindOf(one)}${schema.required?.includes(name) ? "" : "?"}`,
        );
        const body = names.length ? `{ ${names.join(", ")} }` : schema.format === "binary" ? kind : "";
        this.append(
          make(
            "div",
            { class: "verb" },
            make("h2", {}, make("code", {}, `${method.toUpperCase()} ${path}`)),
            make("p", {}, summary),
            ...(body ? [make("p", { class: "quiet" }, make("code", {}, body))] : []),
          ),
        );
      }
    }
  }
}

customElements.define("api-table", ApiTable);
document.getElementById("example").textContent =
  `curl -H 'Content-Type: application/json' -d '{"label": "mug", "seconds": 3}' ${location.origin}/api/v1/label`;
