"""Ray Serve: replicas that answer, started from one command and stopped with it; a bundle is swapped in place."""

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import orjson

from graph.cluster import start_ray
from graph.errors import KeyFormatError, StoreUnavailableError
from graph.keys import Pseudonyms
from graph.store import open_store, redact
from models.bundle import Bundle
from serve import proxy
from serve.errors import ServeError
from serve.follow import Follower, load
from serve.keys import PREFIX, Keyring
from serve.outbox import Outbox
from serve.registry import Plan, Registry
from serve.retraining import Mode, Watch
from serve.scenarios import check_scenarios, read_scenarios
from serve.security import LOOPBACK, check_host, check_port

APP: Final = "isthmus"
START_TIMEOUT_S: Final = 300.0
SWAP_TIMEOUT_S: Final = 60.0
STORE_START_S: Final = 5.0
"""How long a replica waits for the store before it begins to answer without it."""

_LOG = logging.getLogger("isthmus.serve")


class Server:
    """A running server; stop it, or use it in a `with`."""

    def __init__(self, url: str, own_key: str, folder: Path, registry: Registry, replicas: int) -> None:
        self.url = url
        """Such as http://127.0.0.1:8000, to be reached from this machine."""
        self._headers = _authorization(own_key)
        self._folder, self._registry, self._replicas = folder, registry, replicas
        self._stopped = False

    def swap(self, bundle: Path) -> str:
        """Answer from another bundle, without a stop; returns its version once answers come from it.

        Raises: BundleError if it is not a whole bundle: then the old one goes on. ServeError if it cannot be loaded.
        """
        version = Bundle.open(bundle).version
        self._registry.choose(Plan.alone(bundle))
        deadline = time.monotonic() + SWAP_TIMEOUT_S
        while self._versions() != {version}:
            if time.monotonic() > deadline:
                raise ServeError(
                    f"the bundle {bundle} is not in use after {SWAP_TIMEOUT_S:.0f} s: see the replicas' log"
                )
            time.sleep(0.05)
        return version

    def _versions(self) -> set[str]:
        """What a few requests say, which reach every replica as each goes to the one with the fewest at hand."""
        with (
            httpx.Client(base_url=self.url, headers=self._headers) as client,
            ThreadPoolExecutor(4 * self._replicas) as pool,
        ):
            answers = pool.map(lambda _: client.get("/readyz"), range(4 * self._replicas))
            return {answer.json().get("model_version", "") for answer in answers}

    def stop(self) -> None:
        """End replicas, proxy and the Ray cluster that `run` started; safe to call again."""
        import ray
        import ray.serve

        if self._stopped:
            return
        self._stopped = True
        if ray.is_initialized():
            # Not ray.serve.shutdown(), after which Ray prints that the controller was killed.
            for name in ray.serve.status().applications:
                ray.serve.delete(name)
            ray.shutdown()
        proxy.end(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run(
    bundle: Path | None,
    store_url: str,
    *,
    var: Path,
    pseudonym_secret: bytes,
    former_secrets: Sequence[bytes] = (),
    keys: Sequence[str] = (),
    text_model: str | None = None,
    scenarios: Mapping[str, Any] | None = None,
    retrain: Mode = "propose",
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: int = 1,
    block: bool = False,
) -> Server:
    """Start answering. The store may be down: answers are degraded until it comes.

    Args:
        bundle: the folder of a bundle; None goes on with what was chosen over HTTP, or takes the newest of var/bundles.
        var: where bundles and text vectors are, and outbox and plan are kept, shared by all replicas; keys in its file
            `keys` are valid from the moment that they are there to the moment that they are not.
        pseudonym_secret: what `ingest` made the pseudonyms of accounts with.
        former_secrets: those that it has replaced, oldest first.
        keys: keys that are valid beside those, a line each (serve.keys); without any the server answers everybody and
            listens on this machine alone.
        text_model: opens the model that the bundle was trained with, where the name that it gives does not.
        scenarios: what requests can name, as the settings have it (serve.scenarios).
        retrain: "start" begins a retraining that is proposed (serve.retraining).
        host: an IPv4 address.
        block: return only after SIGINT or SIGTERM, when everything has been stopped.
    Raises: BindError, BundleError, KeysError, OutboxError, StoreUrlError, KeyFormatError, ClusterError, ServeError;
    nothing is left running.
    """
    needs_keys = Keyring(keys, var / "keys").are_needed()
    address = check_host(host, has_keys=needs_keys)
    check_port(address, port)
    registry = Registry(var / "bundles", var)
    plan = registry.at_start(bundle)
    if scenarios:
        for path in plan.bundles:
            opened = Bundle.open(path)
            check_scenarios(read_scenarios(scenarios), opened.platforms, opened.attributes)
    Pseudonyms(pseudonym_secret, former_secrets)
    _check_store(store_url)
    Outbox(var / "outbox.db").close()
    import ray

    if ray.is_initialized():
        raise ServeError(
            "this process is in a Ray cluster already: call ray.shutdown() first or serve from its own process"
        )

    own_key = PREFIX + secrets.token_urlsafe(32)
    # Not below $TMPDIR: sockets are made in it, whose paths may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="isthmus-", dir="/tmp"))
    options = folder / "options.json"
    # Secrets go through a file of ours alone, since Ray logs and shows what a deployment is given.
    options.touch(mode=0o600)
    given = replica_options(
        store_url,
        var,
        pseudonym_secret,
        former_secrets,
        keys=keys,
        needs_keys=needs_keys,
        own_key=own_key,
        text_model=text_model,
        scenarios=scenarios,
        retrain=retrain,
    )
    options.write_bytes(orjson.dumps(given))
    local = address if address in LOOPBACK else "127.0.0.1" if address == "0.0.0.0" else address  # noqa: S104
    server = Server(f"http://{local}:{port}", own_key, folder, registry, replicas)
    if block:
        print(f"starting Ray Serve on {server.url}, which takes a quarter of a minute …", flush=True)
    try:
        _start_ray(folder, address, port)
        _deploy(options, replicas)
        _wait_until_ready(server.url, own_key)
    except BaseException:
        server.stop()
        raise
    if block:
        answering = " and ".join(map(str, plan.bundles)) + (", as chosen over HTTP" if plan.chosen else "")
        print(f"{server.url} answers from {answering}; {server.url}/docs shows how to ask, Ctrl-C ends it", flush=True)
        wait_for_signal()
        server.stop()
    return server


def replica_options(
    store_url: str,
    var: Path,
    pseudonym_secret: bytes,
    former_secrets: Sequence[bytes] = (),
    *,
    keys: Sequence[str] = (),
    needs_keys: bool = False,
    own_key: str = "",
    text_model: str | None = None,
    scenarios: Mapping[str, Any] | None = None,
    retrain: Mode = "propose",
) -> dict[str, Any]:
    """What a `Replica` reads from its options file; the arguments are those of `run`."""
    return {
        "store_url": store_url,
        "var": str(var.resolve()),
        "text_model": text_model,
        "job": _job_environment(var, store_url, text_model, pseudonym_secret, former_secrets),
        "folder": os.getcwd(),
        "secrets": [secret.hex() for secret in (*former_secrets, pseudonym_secret)],
        "scenarios": dict(scenarios or {}),
        "retrain": retrain,
        "keys": list(keys),
        "keys_file": str((var / "keys").resolve()),
        "needs_keys": needs_keys,
        "own_key": hashlib.sha256(own_key.encode()).hexdigest(),
    }


def build(args: dict[str, Any]) -> Any:
    """What Ray Serve imports in its cluster: the application, from the path of the options file."""
    import ray.serve

    folder = Path(args["options"]).parent / "metrics"
    folder.mkdir(exist_ok=True)
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    deployment = ray.serve.deployment(
        name="Replica",
        max_ongoing_requests=256,
        max_queued_requests=512,
        # A replica that hangs fails three of these, then it is ended and another starts: 21 s and a start.
        health_check_period_s=2,
        health_check_timeout_s=5,
        graceful_shutdown_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.1,
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": environment}},
        logging_config={"enable_access_log": False},
    )
    return deployment(ray.serve.ingress()(Replica)).bind(args["options"])


class Replica:
    """One process that answers. Its bundles are those of the plan, which it follows."""

    def __init__(self, options: str) -> None:
        import torch

        from models.text import TextEncoder, open_model
        from serve.access import Guard
        from serve.drain import Drainer
        from serve.jobs import LANES, Lane, environment
        from serve.live import Live, StoreGate
        from serve.logs import write_logs
        from serve.metrics import Metrics
        from serve.quota import Quota
        from serve.search import Search
        from serve.service import Service
        from serve.shelf import Reader, Texts, named_model

        torch.set_num_threads(1)
        given = orjson.loads(Path(options).read_bytes())
        url = given["store_url"]
        var = Path(given["var"])
        write_logs(var / "logs")
        self._outbox = Outbox(var / "outbox.db")
        self._gate = StoreGate(lambda: open_store(url))
        self._gate.open(STORE_START_S)
        self._drainer = Drainer(self._outbox, lambda: open_store(url))
        live = Live(self._outbox, self._gate)
        *former, secret = map(bytes.fromhex, given["secrets"])
        keyring = Keyring(
            given["keys"],
            Path(given["keys_file"]),
            own=bytes.fromhex(given["own_key"]),
            required=given["needs_keys"],
        )
        guard = Guard(keyring, Quota(Path(options).parent / "quota"))
        scenarios = read_scenarios(given["scenarios"])

        def open_named(name: str) -> TextEncoder:
            return open_model(named_model(name, given["text_model"]))

        search = Search(var / "vectors", open_named)
        pseudonyms, mode = Pseudonyms(secret, former), given.get("retrain", "propose")
        self._service = Service(live, self._outbox, pseudonyms, Metrics(), guard, search, retrain=mode)
        self._drainer.start()
        texts = Texts(var / "vectors", open_named, lambda: self._service.base)
        own = environment(os.environ, given["job"])
        self._lanes = [Lane(self._service.jobs, name, own, Path(given["folder"])) for name in LANES]
        catalogue = self._outbox.catalogue
        self._reader = Reader(catalogue, self._service.shelf, self._outbox.path.with_name("reader.lease"), texts)
        install = partial(setattr, self._service, "variants")
        registry = Registry(var / "bundles", var)
        self._service.follower = Follower(registry, partial(load, scenarios=scenarios), install)
        self._watch = Watch(registry, self._outbox.newest, self._service.jobs, self._gate.ask, mode=mode)
        self._reader.start()
        for lane in self._lanes:
            lane.start()
        self._watch.start()
        self._service.feedback.start()

    async def check_health(self) -> None:
        """Ray Serve replaces a replica that cannot read its outbox, or whose event loop does not come to this."""
        await self._service.outbox_counts()

    def __serve_build_asgi_app__(self) -> Any:
        from serve.app import create_app

        return create_app(self._service, shows_request_id=False)

    def __del__(self) -> None:
        if hasattr(self, "_service"):
            if self._service.follower is not None:
                self._service.follower.stop()
                self._watch.stop()
            self._drainer.stop()
            self._reader.stop()
            for lane in self._lanes:
                lane.stop()
            self._service.feedback.stop()
            self._service.close()
            self._gate.close()
            self._outbox.close()


def _job_environment(
    var: Path, store_url: str, text_model: str | None, secret: bytes, former: Sequence[bytes]
) -> dict[str, str]:
    """What tells a command of the command line the settings of this server."""
    found = {"ISTHMUS_VAR": str(var.resolve()), "ISTHMUS_STORE": store_url}
    if text_model is not None:
        found["ISTHMUS_TEXT_MODEL"] = text_model
    if not (var / "pseudonym.key").exists():  # else it is found there
        try:
            found["ISTHMUS_PSEUDONYM_KEY"] = secret.decode()
            found["ISTHMUS_FORMER_PSEUDONYM_KEYS"] = orjson.dumps([each.decode() for each in former]).decode()
        except UnicodeDecodeError:
            raise KeyFormatError("a secret for pseudonyms is no text: give one as isthmus serve does") from None
    return found


def _check_store(url: str) -> None:
    try:
        with open_store(url) as store:
            store.ensure_schema()
    except StoreUnavailableError as error:
        _LOG.warning("starting without the store %s: %s", redact(url), error)


def _start_ray(folder: Path, host: str, port: int) -> None:
    root = str(Path(__file__).resolve().parents[1])
    os.environ |= {
        **proxy.environment(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_worker_niceness": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }

    start_ray()
    _start_serve(host, port)


def _start_serve(host: str, port: int) -> None:
    import ray.serve
    from ray.exceptions import RayActorError

    http = {"host": host, "port": port, "request_timeout_s": 30}
    try:
        ray.serve.start(proxy_location="HeadOnly", http_options=http)
    except RayActorError as error:
        # The controller replaces a proxy that is slow to come up, and the wait for the first one ends with this.
        _LOG.warning("the proxy was slow to start, waiting for the next: %s", type(error).__name__)
        try:
            ray.serve.start(proxy_location="HeadOnly", http_options=http)
        except RayActorError as again:
            raise ServeError(f"Ray Serve does not start on this machine ({again}): give it less work") from again


def _deploy(options: Path, replicas: int) -> None:
    import ray.serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    config = {
        "applications": [
            {
                "name": APP,
                "route_prefix": "/",
                "import_path": "serve.deployment:build",
                "args": {"options": str(options)},
                "deployments": [{"name": "Replica", "num_replicas": replicas}],
            }
        ]
    }
    client: Any = _get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate(config))
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        application = ray.serve.status().applications.get(APP)
        status = "" if application is None else str(application.status.value)
        if status == "RUNNING":
            return
        if status in {"DEPLOY_FAILED", "UNHEALTHY"} or time.monotonic() > deadline:
            reasons = "" if application is None else application.message.strip()
            raise ServeError(f"the replicas did not start ({status or 'no answer from Ray Serve'}): {reasons}")
        time.sleep(0.05)


def _authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _wait_until_ready(url: str, own_key: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(base_url=url, timeout=5, headers=_authorization(own_key)) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/readyz").status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise ServeError(f"{url} does not answer after {START_TIMEOUT_S:.0f} s: see the logs of Ray Serve")
            time.sleep(0.05)


def wait_for_signal() -> None:
    """Return at SIGINT or SIGTERM, which end nothing meanwhile."""
    event = threading.Event()
    before = {one: signal.signal(one, lambda *_: event.set()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        event.wait()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
