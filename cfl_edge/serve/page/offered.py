"""The verbs that the page and other programs may ask for over HTTP, and their OpenAPI document.

What sets a path, a command or an option is not among them: those belong to the command line.
"""

from __future__ import annotations

from typing import Any

from cfl_edge.defaults import VERSION
from cfl_edge.loop import verb_arguments
from cfl_edge.loop.verb_arguments import PATHS

VERBS = {
    "label": "Learn every frame from now on as a class; null stops.",
    "unlabel": "Stop learning from the frames that come.",
    "label_frame": "Learn one frame of the last seconds as a class.",
    "relabel": "Learn frames again that had a wrong label.",
    "forget": "Forget frames that should not have been learned.",
    "suspects": "Say which frames learned in this session may have a wrong label.",
    "attention": "Say which places of the newest frame speak for a class.",
    "undo": "Forget what was learned last: seconds, frames, or the last hold or import.",
    "add": "Add a class without a frame.",
    "rename": "Rename a class.",
    "merge": "Make one class of several.",
    "split": "Make a new class of the last frames of a class.",
    "remove": "Remove a class and all that was learned of it.",
    "pause": "Learn only what is corrected or imported, until `resume`.",
    "resume": "Learn again.",
    "look": "Look at every frame for some seconds, whatever --look says.",
    "region": "Look at another part of the frame; what was learned stays.",
    "save": "Write a checkpoint now.",
    "export": "Write the ONNX files that /api/v1/model.onnx downloads.",
    "publish": "Update the file of --publish now.",
}
"""What each verb does; it takes what `verb_arguments` says, without what names a file."""

READS = {
    "/api/v1/status": "Classes, counts and what is taught now.",
    "/api/v1/frame.jpg": "The newest frame; with ?view=model as the model sees it.",
    "/api/v1/stream.mjpg": "The live picture as motion JPEG, for players and dashboards.",
    "/api/v1/model.onnx": "The model as it was exported last.",
    "/api/v1/model-int8.onnx": "The same in 8-bit integers, after POST /api/v1/export_int8.",
    "/api/v1/labels.txt": "Names of its classes, one a line.",
    "/api/v1/openapi.json": "This document.",
    "/prediction": "The newest prediction.",
    "/healthz": "Whether frames come: 200, or 503 with the reason.",
    "/metrics": "Figures for Prometheus.",
}


DECISION = {
    "type": "object",
    "properties": {"frame": {"type": "integer"}, "label": {"type": ["string", "null"]}},
    "required": ["frame", "label"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
POSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/api/v1/review": ("Label a frame of the review tray; null drops it.", DECISION),
    "/api/v1/mislabelled": (
        "Decide a run of frames that may have a wrong label: its label keeps it, another one "
        "corrects it, null forgets it.",
        DECISION,
    ),
    "/api/v1/export_int8": ("Write all ONNX files, the one in 8-bit integers too.", NOTHING),
}
"""What else can be asked for: a sentence, and the schema of the body."""


UPLOADS = {
    "/api/v1/import": (
        "Learn the pictures of a ZIP archive with one folder for each class.",
        "application/zip",
    ),
    "/api/v1/push": ("The next frame, with --stream push:// alone.", "image/jpeg"),
}
"""Files that are taken: a sentence, and the type of the body."""


def arguments_of(verb: str) -> list[str]:
    """Return the names of the arguments that a verb takes from here.

    Example:
        >>> arguments_of("rename"), arguments_of("export")
        (['name', 'to'], [])
    """
    return [name for name in verb_arguments.VERBS[verb].model_fields if name not in PATHS]


def openapi() -> dict[str, Any]:
    """Return the document of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0).

    Example:
        >>> sorted(openapi()["paths"])[:2]
        ['/api/v1/add', '/api/v1/attention']
    """
    described: dict[str, Any] = {
        path: {"get": {"summary": summary, "responses": {"200": {"description": summary}}}}
        for path, summary in READS.items()
    }
    for verb, summary in VERBS.items():
        schema = verb_arguments.VERBS[verb].model_json_schema()
        for path in PATHS & schema["properties"].keys():
            del schema["properties"][path]
        described[f"/api/v1/{verb}"] = _post(verb, summary, schema)
    for path, (summary, schema) in POSTS.items():
        described[path] = _post(path.rpartition("/")[2], summary, schema)
    for path, (summary, kind) in UPLOADS.items():
        described[path] = _post(path.rpartition("/")[2], summary, NOTHING)
        body = {kind: {"schema": {"type": "string", "format": "binary"}}}
        described[path]["post"]["requestBody"]["content"] = body
    bearer = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cfl-edge", "version": VERSION},
        "paths": described,
        "components": {"securitySchemes": {"token": bearer}},
        "security": [{}, {"token": []}],
    }


def _post(name: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    done = {"description": "Done; `said` says what, in a sentence."}
    refused = {"description": "Refused, and nothing was changed; `error` says why."}
    return {
        "post": {
            "summary": summary,
            "operationId": name,
            "requestBody": {"content": {"application/json": {"schema": schema}}},
            "responses": {"200": done, "400": refused, "409": refused},
        }
    }
