"""The page at /docs: the OpenAPI document as plain HTML, without a script and without anything from elsewhere."""

import html
import json
from collections.abc import Mapping
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#8881;padding:.75rem;overflow:auto}"
    "h2 b{display:inline-block;min-width:4rem}summary{cursor:pointer}"
)


def docs_page(openapi: Mapping[str, Any]) -> str:
    """What the API offers, endpoint by endpoint."""
    info = openapi["info"]
    parts = [
        f"<h1>{_text(info['title'])} {_text(info['version'])}</h1><p>{_text(info['description'])} "
        "The same for programs: <a href='openapi.json'>openapi.json</a>.</p>"
    ]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation))
    for name, schema in openapi["components"]["schemas"].items():
        parts.append(
            f"<details id='{_text(name)}'><summary><code>{_text(name)}</code></summary>{_json(schema)}</details>"
        )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{_text(info['title'])}</title><style>{_STYLE}</style>{''.join(parts)}</html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        f"<h2><b>{method.upper()}</b> <code>{_text(path)}</code></h2><p>{_text(operation.get('description', ''))}</p>"
    ]
    for parameter in operation.get("parameters", ()):
        needed = "required" if parameter.get("required") else "optional"
        rows.append(f"<p><code>{_text(parameter['name'])}</code> in {parameter['in']}, {needed}</p>")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        rows.append("<p>Body:</p>" + _json(content["schema"]))
        if "example" in content:
            rows.append("<p>For example:</p>" + _json(content["example"]))
    for status, answer in operation["responses"].items():
        rows.append(f"<p><code>{status}</code> {_text(answer['description'])}</p>")
    return "".join(rows)


def _json(value: object) -> str:
    return f"<pre>{_text(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
