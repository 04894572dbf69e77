"""The road by hand: each command reads what the one before it left, from two shops' exports to an answer over HTTP."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from serve.security import free_port

ISTHMUS = Path(sys.executable).with_name("isthmus")

MAPPING = """
platform: {name}
items: {{file: {name}-items.csv, id: sku, title: name}}
events:
  {{file: {name}-orders.csv, account: customer, item: sku, type: PURCHASED, at: {{column: at, format: seconds}}}}
identities: {{file: people.csv, person: person, platform: platform, account: account}}
"""
TEA, COFFEE = (
    ("kettle", "teapot", "cup", "strainer", "tin", "cosy"),
    ("grinder", "press", "mug", "filter", "scale", "jug"),
)


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """Two shops with the same goods; forty people, half for tea and half for coffee, who buy five things in each."""
    draw = random.Random(0)
    people, orders = ["person,platform,account"], {"east": ["customer,sku,at"], "west": ["customer,sku,at"]}
    for person in range(40):
        taste = TEA if person % 2 else COFFEE
        for number, shop in enumerate(orders):
            people.append(f"{person},{shop},{shop}{person}")
            for place, thing in enumerate(draw.sample(taste, 5)):
                orders[shop].append(f"{shop}{person},{thing},{1_700_000_000 + 100 * (2 * place + number)}")
    for shop, rows in orders.items():
        (tmp_path / f"{shop}.yaml").write_text(MAPPING.format(name=shop))
        goods = [
            f"{thing},A {thing} for {drink}" for drink, kind in (("tea", TEA), ("coffee", COFFEE)) for thing in kind
        ]
        (tmp_path / f"{shop}-items.csv").write_text("\n".join(["sku,name", *goods]) + "\n")
        (tmp_path / f"{shop}-orders.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "people.csv").write_text("\n".join(people) + "\n")
    return tmp_path


def _said(folder: Path, *arguments: str) -> str:
    done = subprocess.run([ISTHMUS, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_the_commands_lead_from_exports_to_an_answer(shops):
    [total] = re.findall(r"^total .*$", _said(shops, "ingest", "east.yaml", "west.yaml"), re.MULTILINE)
    assert total.split()[-2] == "0", "rejected"
    assert "24" in _said(shops, "embed")
    trained = _said(shops, "train", "--workers", "0", "--epochs", "2")
    assert "2 epochs" in trained
    bundle = next((shops / "var" / "bundles").iterdir())
    assert str(bundle.relative_to(shops)) in trained
    assert str(bundle.relative_to(shops)) in _said(shops, "train", "--workers", "0", "--epochs", "2")
    evaluated = _said(shops, "evaluate", "--cohorts")
    # Everybody's last order is one of the west shop's, so that all that is held out is there.
    for said in ("popularity", "item-knn", "ease", "isthmus", "platform:west", "ndcg@10", "known on the platform"):
        assert said in evaluated

    port = free_port()
    with subprocess.Popen([ISTHMUS, "serve", "--port", str(port)], cwd=shops, env=os.environ) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                _wait_until_ready(client, server)
                asked = {"account_id": "east:east1", "target_platforms": ["west"], "limit": 1}
                [item] = client.post("/v1/recommendations", json=asked).raise_for_status().json()["items"]
                assert item["platform"] == "west"
                assert item["source"] == "model"
                assert item["base"] + sum(path["contribution"] for path in item["paths"]) == pytest.approx(
                    item["score"], abs=1e-3
                )
            busy = subprocess.run(
                [ISTHMUS, "serve", "--port", str(port)], cwd=shops, capture_output=True, text=True, check=False
            )
            assert busy.returncode == 1
            assert f"port {port}" in busy.stderr
            assert busy.stderr.count("\n") == 1
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def _wait_until_ready(client: httpx.Client, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 180
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail("isthmus serve did not come up")
