"""Tests of the trackers, without their libraries.

PYTHONPATH=python python3 -m unittest discover -s python/tests

The trackers' own libraries read what was sent in `with_real_libraries.sh`.
"""

from __future__ import annotations

import http.server
import json
import os
import struct
import sys
import threading
import unittest
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from test_relay import InPlace
from vxf import _needs, _text, _trackers
from vxf._trackers import TrackerError, _events


def records(data: bytes) -> list[bytes]:
    """The records of an event file, with checked sums."""
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        content = data[12 : 12 + length]
        assert data[8:12] == _events._checksum(data[:8])
        assert data[12 + length : 16 + length] == _events._checksum(content)
        found.append(content)
        data = data[16 + length :]
    return found


class TensorBoard(InPlace):
    def test_the_checksum_is_that_of_the_standard(self) -> None:
        masked = struct.unpack("<I", _events._checksum(b"123456789"))[0]
        rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
        self.assertEqual((rotated >> 17 | rotated << 15) & 0xFFFFFFFF, 0xE3069283)

    def test_a_scalar_is_an_event(self) -> None:
        event = _events.scalar(1.5, 300, "loss", 0.5)
        time_and_step = b"\x09" + struct.pack("<d", 1.5) + b"\x10\xac\x02"
        self.assertEqual(event, time_and_step + b"\x2a\x0d\x0a\x0b\x0a\x04loss\x15" + struct.pack("<f", 0.5))
        self.assertIn(struct.pack("<f", float("-inf")), _events.scalar(0.0, 0, "x", -1e300))

    def test_files_are_written_once(self) -> None:
        logdir = self.work / "events"
        arguments = ["track", str(self.one), "--to", "tensorboard", "--logdir", str(logdir)]
        code, said = self.command(*arguments)
        self.assertEqual(code, 0)
        self.assertIn("tensorboard: sft/0.2/1: 12 values", said)
        self.assertEqual(self.command(*arguments), (0, "tensorboard: nothing new\n"))
        (file,) = (logdir / "one/sft/0.2/1").iterdir()
        content = records(file.read_bytes())
        self.assertIn(b"brain.Event:2", content[0])
        self.assertEqual(sum(b"train/loss" in event for event in content), 1)
        self.assertFalse(any(b"how do i forge" in event for event in content))
        # Without its files, everything is written again.
        file.unlink()
        self.assertIn("tensorboard: sft/0.2/1: 12 values", self.command(*arguments)[1])
        self.command(*arguments, "--with-samples")
        stored = b"".join(each.read_bytes() for each in (logdir / "one/sft/0.2/1").iterdir())
        self.assertIn(b"    how do i forge 0 ?", stored)


class Server(http.server.BaseHTTPRequestHandler):
    """Enough of MLflow's REST API."""

    calls: ClassVar[list[tuple[str, str, Any, str | None]]] = []
    redirect = ""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0].removeprefix("/api/2.0/mlflow/")
        try:
            content: Any = json.loads(body or b"{}")
        except ValueError:
            content = body.decode()
        self.calls.append((self.command, path, content, self.headers.get("Authorization")))
        status, value = 200, {}
        if self.redirect:
            status = 307
        elif path == "experiments/get-by-name":
            status, value = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
        elif path == "experiments/create":
            value = {"experiment_id": "7"}
        elif path in ("runs/create", "runs/get"):
            info = {"run_id": "r1", "lifecycle_stage": "active", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"}
            value = {"run": {"info": info}}
        self.send_response(status)
        if self.redirect:
            self.send_header("Location", self.redirect)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_: Any) -> None:
        pass


class MLflow(InPlace):
    def setUp(self) -> None:
        super().setUp()
        Server.calls, Server.redirect = [], ""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.address = f"http://127.0.0.1:{server.server_port}"

    def environment(self, **values: str) -> Any:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        return mock.patch.dict(os.environ, {**kept, **values}, clear=True)

    def test_values_settings_and_answers_are_sent(self) -> None:
        with self.environment(MLFLOW_TRACKING_URI=self.address, MLFLOW_TRACKING_TOKEN="secret"):
            run = str(self.one / "sft/0.2/1")
            code, said = self.command("track", run, "--to", "mlflow", "--project", "p")
            self.assertEqual((code, said), (0, "mlflow: sft/0.2/1: 12 values\n"))
            names = [path for _, path, _, _ in Server.calls]
            self.assertEqual(
                names,
                [
                    "experiments/get-by-name",
                    "experiments/create",
                    "runs/create",
                    *["runs/log-batch"] * 2,
                    "runs/update",
                ],
            )
            self.assertEqual({token for _, _, _, token in Server.calls}, {"Bearer secret"})
            values = Server.calls[4][2]["metrics"]
            self.assertEqual((values[2]["key"], values[2]["value"], values[2]["step"]), ("train/loss", 4.0, 1))
            self.assertEqual(Server.calls[5][2]["status"], "FINISHED")
            self.assertNotIn("forge", json.dumps(Server.calls))
            self.command("track", run, "--to", "mlflow", "--project", "p", "--with-samples")
            method, path, content, _ = Server.calls[-2]
            self.assertEqual(
                (method, path), ("PUT", "/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/answers.jsonl")
            )
            self.assertIn("how do i forge 0 ?", content)
        self.assertNotIn("secret", said + "".join(file.read_text() for file in (self.one / ".track").iterdir()))

    def test_a_token_goes_nowhere_else(self) -> None:
        Server.redirect = "http://localhost:1/elsewhere"
        with self.environment(MLFLOW_TRACKING_URI=self.address, MLFLOW_TRACKING_TOKEN="secret"):
            code, said = self.command("track", str(self.one), "--to", "mlflow")
        self.assertEqual(code, 1)
        self.assertIn("status 307", said)
        self.assertEqual(len(Server.calls), 1)
        with (
            self.environment(MLFLOW_TRACKING_URI="http://example.org", MLFLOW_TRACKING_TOKEN="secret"),
            self.assertRaisesRegex(TrackerError, "not sent over http"),
        ):
            _trackers.tracker("mlflow", "p", self.work)

    def test_an_address_is_needed(self) -> None:
        for address in ("", "sqlite:///x.db", "file:/tmp"):
            with self.environment(MLFLOW_TRACKING_URI=address), self.assertRaisesRegex(TrackerError, "must name"):
                _trackers.tracker("mlflow", "p", self.work)
        with (
            self.environment(MLFLOW_TRACKING_URI="http://me:word@127.0.0.1"),
            self.assertRaisesRegex(TrackerError, "has a password in it"),
        ):
            _trackers.tracker("mlflow", "p", self.work)

    def test_one_that_is_away_does_not_stop_the_others(self) -> None:
        with self.environment(MLFLOW_TRACKING_URI="http://127.0.0.1:1"):
            events = str(self.work / "events")
            code, said = self.command("track", str(self.one), "--to", "mlflow,tensorboard", "--logdir", events)
        self.assertEqual(code, 1)
        self.assertIn("error: mlflow: no answer", said)
        self.assertIn("tensorboard: sft/0.2/1: 12 values", said)


class Clients(InPlace):
    def test_tokens_come_from_the_environment(self) -> None:
        with mock.patch.dict(os.environ, {}, clear=True), self.assertRaisesRegex(TrackerError, "WANDB_API_KEY"):
            _trackers.tracker("wandb", "p", self.work)
        with (
            mock.patch.dict(os.environ, {"TRACKIO_SPACE_ID": "me/space"}, clear=True),
            self.assertRaisesRegex(TrackerError, "HF_TOKEN"),
        ):
            _trackers.tracker("trackio", "p", self.work)

    def test_messages_have_no_tokens(self) -> None:
        with mock.patch.dict(os.environ, {"WANDB_API_KEY": "secret"}):
            message = _text.without_secrets("no such key secret at http://x/?write_token=other&y")
        self.assertEqual(message, "no such key *** at http://x/?write_token=***&y")

    def test_a_missing_library_is_named(self) -> None:
        with self.assertRaisesRegex(ModuleNotFoundError, "needs surely_absent: pip install surely-absent"):
            _needs.needed("surely_absent", "this needs", "surely-absent")
        # A directory of this name is no library.
        (self.work / "surely_absent").mkdir()
        with mock.patch.object(sys, "path", [str(self.work), *sys.path]), self.assertRaises(ModuleNotFoundError):
            _needs.needed("surely_absent", "this needs", "surely-absent")
        sys.modules.pop("surely_absent", None)

    def test_they_can_be_checked_before_anything_is_sent(self) -> None:
        with mock.patch.dict(os.environ, {}, clear=True):
            self.assertEqual(self.command("trackers", "--to", "tensorboard"), (0, ""))
            code, said = self.command("trackers", "--to", "tensorboard,mlflow")
        self.assertEqual(code, 1)
        self.assertIn("error: mlflow: MLFLOW_TRACKING_URI must name a tracking server", said)

    def test_only_known_trackers_can_be_named(self) -> None:
        with self.assertRaises(SystemExit) as ended:
            self.command("track", str(self.one), "--to", "carrier-pigeon")
        self.assertEqual(ended.exception.code, 2)


if __name__ == "__main__":
    unittest.main()
