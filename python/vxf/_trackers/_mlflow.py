"""MLflow, through the REST API of a tracking server.

``MLFLOW_TRACKING_URI`` names the server. ``MLFLOW_TRACKING_TOKEN``, or ``MLFLOW_TRACKING_USERNAME`` with
``MLFLOW_TRACKING_PASSWORD``, are sent to this server and nowhere else.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ._tracker import Described, Point, TrackerError

#: Seconds until a server that says nothing is given up.
_PATIENCE = 30
#: Most values and settings in one request, which the API limits.
_MOST_VALUES, _MOST_SETTINGS = 1000, 100
#: Most bytes of a server's answer that are read.
_MOST_BYTES = 1 << 22
#: Most characters of a setting.
_MOST_CHARACTERS = 500


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Python's own handler would send the token along to wherever it is led."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Refused(TrackerError):
    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class MLflow:
    """An experiment of a tracking server. A run of ours is a run of MLflow."""

    name = "mlflow"

    def __init__(self, project: str) -> None:
        self._project = project
        address = os.environ.get("MLFLOW_TRACKING_URI", "")
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TrackerError(
                "mlflow: MLFLOW_TRACKING_URI must name a tracking server, such as http://127.0.0.1:5000; "
                "`mlflow server` starts one"
            )
        if parts.username or parts.password:
            raise TrackerError(
                "mlflow: MLFLOW_TRACKING_URI has a password in it; "
                "use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        self._base = address.rstrip("/")
        self._headers = _authorisation()
        if self._headers and parts.scheme == "http" and not _is_here(parts.hostname):
            raise TrackerError("mlflow: a token is not sent over http to another machine; use https, or a tunnel")
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._experiment = ""

    @property
    def destination(self) -> str:
        return f"{self._base} {self._project}"

    def exists(self, run: Described, handle: str) -> bool:
        try:
            found = self.call("GET", "runs/get", {"run_id": handle})
        except _Refused as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return found["run"]["info"].get("lifecycle_stage") != "deleted"

    def open(self, run: Described, handle: str | None) -> _Run:
        if handle is not None:
            return _Run(self, handle)
        made = self.call(
            "POST",
            "runs/create",
            {
                "experiment_id": self._experiment_id(),
                "run_name": run.name,
                "start_time": _now(),
                "tags": [{"key": f"vxf.{key}", "value": str(value)} for key, value in run.tags.items()],
            },
        )
        return _Run(self, made["run"]["info"]["run_id"])

    def call(self, method: str, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """One request to the API."""
        address, body = f"{self._base}/api/2.0/mlflow/{path}", None
        if method == "GET":
            address += "?" + urllib.parse.urlencode(content)
        else:
            body = json.dumps(content).encode()
        answer = self.request(method, address, body, "application/json")
        try:
            value = json.loads(answer or b"{}")
        except ValueError as error:
            raise TrackerError(f"mlflow: {path}: the answer is not JSON; is this a tracking server?") from error
        return value

    def put(self, path: str, body: bytes) -> None:
        """Stores a file through the server."""
        address = f"{self._base}/api/2.0/mlflow-artifacts/artifacts/{urllib.parse.quote(path)}"
        self.request("PUT", address, body, "application/octet-stream")

    def request(self, method: str, address: str, body: bytes | None, kind: str) -> bytes:
        headers = {**self._headers, "Content-Type": kind}
        request = urllib.request.Request(address, data=body, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=_PATIENCE) as response:
                return response.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            text = error.read(_MOST_BYTES).decode(errors="replace")
            raise _refusal(error.code, text) from error
        except OSError as error:
            raise TrackerError(f"mlflow: no answer from the tracking server: {error}") from error

    def _experiment_id(self) -> str:
        if not self._experiment:
            try:
                found = self.call("GET", "experiments/get-by-name", {"experiment_name": self._project})
                self._experiment = found["experiment"]["experiment_id"]
            except _Refused as error:
                if error.code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self._experiment = self.call("POST", "experiments/create", {"name": self._project})["experiment_id"]
        return self._experiment


class _Run:
    def __init__(self, server: MLflow, handle: str) -> None:
        self._server = server
        self.handle = handle

    def send(self, points: list[Point]) -> None:
        # The log has no times. With one time for all, the chart over steps is right.
        now = _now()
        for start in range(0, len(points), _MOST_VALUES):
            part = points[start : start + _MOST_VALUES]
            values = [{"key": each.name, "value": each.value, "timestamp": now, "step": each.step} for each in part]
            self._server.call("POST", "runs/log-batch", {"run_id": self.handle, "metrics": values})

    def describe(self, settings: dict[str, Any]) -> None:
        rows = [{"key": key, "value": str(value)[:_MOST_CHARACTERS]} for key, value in settings.items()]
        for start in range(0, len(rows), _MOST_SETTINGS):
            part = rows[start : start + _MOST_SETTINGS]
            self._server.call("POST", "runs/log-batch", {"run_id": self.handle, "params": part})

    def answers(self, rows: list[dict[str, Any]]) -> None:
        info = self._server.call("GET", "runs/get", {"run_id": self.handle})["run"]["info"]
        place = urllib.parse.urlsplit(info.get("artifact_uri", ""))
        if place.scheme != "mlflow-artifacts":
            raise TrackerError("mlflow: the server does not serve artifacts, so it cannot take answers")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._server.put(place.path.strip("/") + "/answers.jsonl", lines.encode())

    def close(self, state: str) -> None:
        if state in ("done", "failed"):
            status = "FINISHED" if state == "done" else "FAILED"
            self._server.call("POST", "runs/update", {"run_id": self.handle, "status": status, "end_time": _now()})


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 10**6


def _authorisation() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _is_here(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(status: int, text: str) -> _Refused:
    try:
        value = json.loads(text)
        code, message = str(value["error_code"]), str(value.get("message", ""))
    except (ValueError, KeyError, TypeError):
        code, message = "", "the address leads elsewhere" if 300 <= status < 400 else ""
    return _Refused(f"mlflow: the server refused with status {status} {code} {message}".rstrip(), code)
