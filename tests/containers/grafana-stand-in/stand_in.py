"""Not Grafana: reads what Grafana would be given, where it would look, and puts each panel's query to the data source.

`GET /api/health` answers 200 while the files are there, as the container's health check expects. `GET /queries` answers
with the number of samples that each panel's query has now, and with 502 where one is refused.
"""

import json
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

PROVISIONING = Path("/etc/grafana/provisioning")
HOME = Path("/var/lib/grafana")


def read(kind: str, key: str) -> list[dict[str, Any]]:
    files = sorted((PROVISIONING / kind).glob("*.yml"))
    return [entry for path in files for entry in yaml.safe_load(path.read_text(encoding="utf-8"))[key]]


def dashboards() -> list[dict[str, Any]]:
    folders = [Path(provider["options"]["path"]) for provider in read("dashboards", "providers")]
    found = [
        json.loads(path.read_text(encoding="utf-8")) for folder in folders for path in sorted(folder.glob("*.json"))
    ]
    if not found:
        raise FileNotFoundError(f"no dashboard in {folders}")
    return found


def samples(source: dict[str, Any], query: str) -> int:
    parameters = urllib.parse.urlencode({"query": query.replace("$__rate_interval", "1m")})
    with urllib.request.urlopen(f"{source['url']}/api/v1/query?{parameters}", timeout=10) as answer:
        return len(json.load(answer)["data"]["result"])


def queries() -> dict[str, int]:
    sources = {source["uid"]: source for source in read("datasources", "datasources")}
    return {
        f"{panel['title']}: {target['expr']}": samples(sources[target["datasource"]["uid"]], target["expr"])
        for dashboard in dashboards()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


def health() -> dict[str, Any]:
    (HOME / "written").touch()
    return {"stand_in": True, "dashboards": [dashboard["title"] for dashboard in dashboards()]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            page = {"/api/health": health, "/queries": queries}[self.path]
        except KeyError:
            self.answer(404, {"detail": "a stand-in for Grafana: it knows /api/health and /queries"})
            return
        try:
            self.answer(200, page())
        except (OSError, KeyError, ValueError) as error:
            self.answer(502, {"detail": f"{type(error).__name__}: {error}"})

    def answer(self, status: int, document: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(document, indent=1).encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()
