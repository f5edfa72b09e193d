"""The options of `run` that make it a service."""

import http.client
import json
import re
import sys

import pytest
from command_line import MAIN, assert_error, cfl_edge, process


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--http", "x"), "--http is 'x'"),
        (("--http", "0.0.0.0:0"), "expected a token"),
        (("--http", "0", "--token-file", "/nowhere"), "--token-file /nowhere cannot be read"),
        (("--on-change", "no-such-program"), "--on-change is 'no-such-program'"),
        (("--on-change", "'"), "--on-change is"),
        (("--on-change", ""), "--on-change is '', expected a program"),
    ],
)
def test_wrong_options(learned, data, options, words):
    result = cfl_edge("run", learned / "onnx/model.onnx", "--stream", data, *options)
    assert_error(result, 2, words)
    assert "frame" not in result.out


def test_a_short_token_is_not_printed(learned, data, monkeypatch):
    monkeypatch.setenv("CFL_EDGE_HTTP_TOKEN", "hunter2")
    result = cfl_edge("run", learned / "onnx/model.onnx", "--stream", data, "--http", "0")
    assert_error(result, 2, "$CFL_EDGE_HTTP_TOKEN holds 7 characters")
    assert "hunter2" not in result.out + result.err


def test_a_service_answers_and_calls(learned, tmp_path):
    out, token = tmp_path / "out", "t" * 24
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    command = f'{sys.executable} -S -c \'import os; open("{out}", "a").write(os.environ["CFL_EDGE_LABEL"] + "\\n")\''  # noqa: E501
    service = process(
        MAIN,
        *("run", learned / "onnx/model.onnx", "--stream", "demo:", "--realtime", "20", "--json"),
        *("--http", "0", "--token-file", tmp_path / "token", "--on-change", command),
    )
    lines, port = [], None
    try:
        for line in service.stdout:
            lines.append(line)
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)/", line)
            port = int(found[1]) if found else port
            if out.exists() and out.read_text():
                break
        bearer = {"Authorization": f"Bearer {token}"}
        for path, headers, expected in (
            ("/healthz", bearer, 200),
            ("/prediction", bearer, 200),
            ("/metrics", bearer, 200),
            ("/prediction", {}, 401),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            assert answer.status == expected
            body = answer.read().decode()
            if path == "/prediction" and headers:
                assert json.loads(body)["classes"] == ["above", "left"]
            connection.close()
        service.terminate()
        rest, errors = service.communicate(timeout=30)
    finally:
        service.kill()
    assert (service.returncode, errors) == (0, "")
    assert json.loads(rest.splitlines()[-1])["event"] == "summary"
    assert out.read_text().split()[0] in ("above", "left")
    assert token not in "".join(lines) + rest
