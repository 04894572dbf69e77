"""A real Neo4j for a person or for tests: the one of NEO4J_URI, else Docker's, else one assembled from Maven Central.

    python deploy/neo4j/server.py start      up on 127.0.0.1, Browser included; prints the URL
    python deploy/neo4j/server.py status
    python deploy/neo4j/server.py stop
    python deploy/neo4j/server.py import     what `isthmus bulk write` wrote, into the empty database; up again after it

The assembled server needs Java 17 (or 21) and Maven; on Debian and Ubuntu root gets them installed. Its jars (116 MB)
are kept in ~/.cache/isthmus and serve every clone. A server is always ended by its own process id.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString, Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

HERE: Final = Path(__file__).resolve().parent
COMPOSE: Final = HERE.parents[1] / "compose.yml"
START_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 60.0

_JAVA_OPTIONS: Final = (
    "-XX:+UseG1GC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dfile.encoding=UTF-8",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)


class NoNeo4jError(Exception):
    """There is no Neo4j here; the text says how to get one."""


class Server(Protocol):
    """A Neo4j that we start and end."""

    how: str
    """What it is, for people."""

    def start(self, password: str) -> None:
        """Start it and return when it answers; again after `kill` it has the same data."""

    def stop(self) -> None:
        """End it in good order; its data stay where they are."""

    def kill(self) -> None:
        """End it as a power failure would."""

    def remove(self) -> None:
        """End it and remove its data."""


@dataclass(frozen=True)
class Place:
    """Where a server listens and keeps its data."""

    home: Path
    """Data, logs, configuration and the process id."""
    bolt_port: int = 7687
    http_port: int = 7474
    heap_mib: int = 1024
    page_cache_mib: int = 512
    outlives_us: bool = True
    """Whether signals to our process group (Ctrl-C, `timeout`) leave it alone."""

    def url(self, password: str) -> str:
        """The store's URL."""
        return f"neo4j://neo4j:{quote(password, safe='')}@127.0.0.1:{self.bolt_port}/neo4j"


def named() -> str | None:
    """The store URL that NEO4J_URI (and NEO4J_USERNAME, NEO4J_PASSWORD, where it has none) names, if it is set."""
    uri = os.environ.get("NEO4J_URI")
    if not uri:
        return None
    parts = urlsplit(uri)
    if parts.username is None and "NEO4J_PASSWORD" in os.environ:
        user = quote(os.environ.get("NEO4J_USERNAME", "neo4j"), safe="")
        password = quote(os.environ["NEO4J_PASSWORD"], safe="")
        parts = parts._replace(netloc=f"{user}:{password}@{parts.netloc}")
    return urlunsplit(parts)


def choose(place: Place, say: Callable[[str], None]) -> Server:
    """The server to start here: Docker's if an engine answers, else the assembled one (installed if need be).

    Raises: NoNeo4jError if neither can be had.
    """
    if docker_answers():
        return DockerServer(place)
    return AssembledServer(place, java := find_java(say), assemble(java, say))


def docker_answers() -> bool:
    """Whether there is a Docker engine with `docker compose`."""
    if shutil.which("docker") is None:
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        return all(
            subprocess.run(["docker", *command], capture_output=True, timeout=20, check=False).returncode == 0
            for command in (["info"], ["compose", "version"])
        )
    return False


class DockerServer:
    """The service of compose.yml, as a project of its own for each place."""

    how = "Docker, compose.yml"

    def __init__(self, place: Place) -> None:
        self._place = place
        digest = hashlib.blake2b(str(place.home.resolve()).encode(), digest_size=4).hexdigest()
        self._command = ["docker", "compose", "-f", str(COMPOSE), "-p", f"isthmus-{digest}"]
        self._password = ""

    def start(self, password: str) -> None:
        self._password = password
        self._run("up", "--detach", "--wait", "neo4j")
        _wait_until_it_answers(self._place, password, lambda: None)

    def stop(self) -> None:
        self._run("stop")

    def kill(self) -> None:
        self._run("kill", "--signal", "SIGKILL")

    def remove(self) -> None:
        self._run("down", "--volumes")

    def _run(self, *arguments: str) -> None:
        environment = {
            **os.environ,
            "NEO4J_PASSWORD": self._password or "not-needed-to-stop",
            "NEO4J_BOLT_PORT": str(self._place.bolt_port),
            "NEO4J_HTTP_PORT": str(self._place.http_port),
        }
        done = subprocess.run(
            [*self._command, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NoNeo4jError(f"docker compose {arguments[0]} failed: {_last_line(done.stderr)}")


class AssembledServer:
    """The community server from Maven Central, a process of ours on 127.0.0.1."""

    how = "the community server from Maven Central"

    def __init__(self, place: Place, java: Path, lib: Path) -> None:
        self._place = place
        self._java = java
        self._lib = lib
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, password: str) -> None:
        if len(password) < 8:
            raise NoNeo4jError(f"the password has {len(password)} characters: Neo4j wants at least 8")
        home = self._place.home
        self._make_folders()
        for port in (self._place.bolt_port, self._place.http_port):
            if not _is_free(port):
                raise NoNeo4jError(f"port {port} is in use: end what listens there, or give another port (--help)")
        self._write_configuration()
        if self._importing.exists():
            raise NoNeo4jError(f"an import into {home} did not come to its end: run it again (server.py import)")
        if not (home / "data" / "dbms").exists():
            self._set_password(password)
        arguments = self._write_arguments(
            "server.args",
            "org.neo4j.server.CommunityEntryPoint",
            f"--home-dir={home.resolve()}",
            f"--config-dir={(home / 'conf').resolve()}",
            "--console-mode",
        )
        with (home / "logs" / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._java, f"@{arguments}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=self._place.outlives_us,
            )
        (home / "run" / "pid").write_text(str(self._process.pid))
        try:
            _wait_until_it_answers(self._place, password, self._check_that_it_runs)
        except BaseException:
            self.stop()
            raise

    def import_files(self, arguments: Path, password: str) -> None:
        """Fill the empty database with the files that the importer's arguments name, and start the server.

        Raises: NoNeo4jError if the database holds anything, or the importer does not come to its end: then it has to
            be done again before the server starts.
        """
        home = self._place.home
        if (home / "data" / "databases" / "neo4j").exists() and not self._importing.exists():
            if was_down := running_pid(home) is None:
                self.start(password)
            if nodes := _count_nodes(self._place.url(password)):
                if was_down:
                    self.stop()
                raise NoNeo4jError(
                    f"the database in {home} holds {nodes:,} nodes, and the importer fills empty ones alone: ingest "
                    "into it as usual, or give another --home"
                )
        self.stop()
        self._make_folders()
        self._write_configuration()
        self._importing.touch()
        self._admin(
            "import.args",
            (
                "database",
                "import",
                "full",
                f"@{arguments.resolve()}",
                "--overwrite-destination=true",
                "--verbose",
                "neo4j",
            ),
            "import these files",
        )
        self._importing.unlink()
        self.start(password)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._place.home)

    def _end(self, how: signal.Signals) -> None:
        pid = running_pid(self._place.home)
        if pid is not None:
            os.kill(pid, how)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while self._is_alive(pid):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)
        (self._place.home / "run" / "pid").unlink(missing_ok=True)

    def _is_alive(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return running_pid(self._place.home) == pid

    def _check_that_it_runs(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            log = self._place.home / "logs" / "console.log"
            raise NoNeo4jError(f"Neo4j ended at once: {_last_line(log.read_text(errors='replace'))} (see {log})")

    def _write_configuration(self) -> None:
        place = self._place
        own = (
            f"server.bolt.listen_address=127.0.0.1:{place.bolt_port}",
            f"server.bolt.advertised_address=127.0.0.1:{place.bolt_port}",
            f"server.http.listen_address=127.0.0.1:{place.http_port}",
            f"server.http.advertised_address=127.0.0.1:{place.http_port}",
            f"server.memory.heap.max_size={place.heap_mib}m",
            f"server.memory.pagecache.size={place.page_cache_mib}m",
        )
        common = (HERE / "conf" / "neo4j.conf").read_text()
        (place.home / "conf" / "neo4j.conf").write_text(common + "\n".join(own) + "\n")

    @property
    def _importing(self) -> Path:
        """Is there while an import runs, and after one that was broken off."""
        return self._place.home / "run" / "importing"

    def _make_folders(self) -> None:
        for folder in ("conf", "data", "logs", "plugins", "import", "run"):
            (self._place.home / folder).mkdir(parents=True, exist_ok=True)

    def _set_password(self, password: str) -> None:
        self._admin("password.args", ("dbms", "set-initial-password", password), "take the password")

    def _admin(self, name: str, words: Sequence[str], what: str) -> None:
        arguments = self._write_arguments(name, "org.neo4j.cli.AdminTool", *words)
        home = self._place.home.resolve()
        try:
            done = subprocess.run(
                [self._java, f"@{arguments}"],
                cwd=home / "logs",
                env={**os.environ, "NEO4J_HOME": str(home), "NEO4J_CONF": str(home / "conf")},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            arguments.unlink()
        (home / "logs" / f"{name}.log").write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            raise NoNeo4jError(f"Neo4j did not {what}: {_cause(done.stdout + done.stderr)} (see {home / 'logs'})")

    def _write_arguments(self, name: str, main_class: str, *arguments: str) -> Path:
        # Java reads its arguments from a file of ours, so that a password is in no process list.
        words = (f"-Xmx{self._place.heap_mib}m", *_JAVA_OPTIONS, "-cp", f"{self._lib}/*", main_class, *arguments)
        path = self._place.home.resolve() / "run" / name
        _write_private(path, "\n".join(json.dumps(word, ensure_ascii=False) for word in words))
        return path


def running_pid(home: Path) -> int | None:
    """The process id of the assembled server that runs in `home`, if one does."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((home / "run" / "pid").read_text())
        if str(home.resolve() / "run" / "server.args") in _command_line(pid):
            return pid
    return None


def find_java(say: Callable[[str], None]) -> Path:
    """A Java 17 or 21 with Maven beside it; installs both on a Debian or Ubuntu where we are root.

    Raises: NoNeo4jError if there is none and none can be installed.
    """
    java = _java()
    if java is not None and shutil.which("mvn"):
        return java
    if shutil.which("apt-get") and os.geteuid() == 0:
        say("Installing Java 17 and Maven with apt-get, once")
        _apt_get("update")
        wanted = [] if java else [_first_package("openjdk-17-jdk-headless", "openjdk-21-jdk-headless")]
        _apt_get("install", "--yes", "--no-install-recommends", *wanted, "maven")
        java = _java()
        if java is not None and shutil.which("mvn"):
            return java
    raise NoNeo4jError(
        "there is no Neo4j here and none can be assembled without Java 17 and Maven: install them (conda env create -f "
        "environment.yml has both), start Docker, or set NEO4J_URI=neo4j://user:password@host:7687/neo4j"
    )


def assemble(
    java: Path, say: Callable[[str], None], pom: Path = HERE / "pom.xml", what: str = "Neo4j and its Browser (116 MB)"
) -> Path:
    """The folder of the jars of a pom.xml, fetched from Maven Central when they have not been fetched before."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isthmus"
    lib = cache / f"{pom.parent.name}-{hashlib.blake2b(pom.read_bytes(), digest_size=6).hexdigest()}"
    if lib.exists():
        return lib
    say(f"Fetching {what} from Maven Central into {lib}, once")
    cache.mkdir(parents=True, exist_ok=True)
    part = cache / f"{lib.name}.{os.getpid()}"
    try:
        done = subprocess.run(
            ["mvn", "-B", "-ntp", "-q", "-f", str(pom), f"-Dlib.directory={part}", "package"],
            env={**os.environ, "JAVA_HOME": str(java.resolve().parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NoNeo4jError(
                f"Maven could not fetch {what}: {_last_line(done.stdout + done.stderr)}; check the network or the "
                "mirrors in ~/.m2/settings.xml, or set NEO4J_URI to a Neo4j of yours"
            )
        with contextlib.suppress(OSError):  # another process was quicker: its jars are the same
            part.rename(lib)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(f"{part}.build", ignore_errors=True)
    return lib


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description="A real Neo4j on 127.0.0.1: the one NEO4J_URI names, else Docker's, else one from Maven Central.",
        epilog="The password is NEO4J_PASSWORD, or one that is made on the first start and kept in <home>/password.",
    )
    parser.add_argument("command", choices=("start", "stop", "status", "import"))
    parser.add_argument("--home", type=Path, default=Path("var/neo4j"), help="data, logs and password (var/neo4j)")
    parser.add_argument(
        "--from", type=Path, default=Path("var/bulk"), help="what `isthmus bulk write` wrote (var/bulk)"
    )
    parser.add_argument("--bolt-port", type=int, default=7687, help="what the store URL names (7687)")
    parser.add_argument("--http-port", type=int, default=7474, help="the Browser's (7474)")
    options = parser.parse_args(arguments)
    place = Place(options.home, options.bolt_port, options.http_port)
    try:
        if options.command == "import":
            return _import(place, vars(options)["from"])
        return {"start": _start, "stop": _stop, "status": _status}[options.command](place)
    except NoNeo4jError as error:
        print(f"neo4j: {error}", file=sys.stderr)
        return 1


def _start(place: Place) -> int:
    uri = named()
    if uri is not None:
        print("NEO4J_URI is set: that Neo4j is used and none is started")
        return 0
    password = _password(place.home)
    if running_pid(place.home) is not None:
        _wait_until_it_answers(place, password, lambda: None)
        how = "up already"
    else:
        server = choose(place, print)
        print(f"Starting Neo4j ({server.how})", flush=True)
        server.start(password)
        how = "up"
    print(
        f"Neo4j is {how}\n"
        f"  store    {place.url(password)}\n"
        f"  Browser  http://127.0.0.1:{place.http_port}/browser/  user neo4j, password {password}\n"
        f"  fill it  isthmus ingest --store '{place.url(password)}'\n"
        f"  stop it  python deploy/neo4j/server.py stop --home {place.home}"
    )
    return 0


def _import(place: Place, folder: Path) -> int:
    if not (folder / "arguments").is_file():
        raise NoNeo4jError(f"{folder} has no file called arguments: write it with isthmus bulk write")
    if named() is not None:
        raise NoNeo4jError(
            "NEO4J_URI names a Neo4j that is not ours: run its own neo4j-admin, as isthmus bulk write says"
        )
    server = choose(place, print)
    if not isinstance(server, AssembledServer):
        raise NoNeo4jError(
            f"the Neo4j here is Docker's: run neo4j-admin in a container that sees its data and {folder.resolve()}, as "
            "isthmus bulk write says"
        )
    password = _password(place.home)
    print(f"Importing {folder}", flush=True)
    server.import_files(folder / "arguments", password)
    print(f"Neo4j is up with it; now: isthmus bulk finish '{place.url(password)}'")
    return 0


def _stop(place: Place) -> int:
    if running_pid(place.home) is not None:
        AssembledServer(place, Path(), Path()).stop()
    elif docker_answers():
        DockerServer(place).stop()
    print("Neo4j is down; its data stay")
    return 0


def _status(place: Place) -> int:
    uri = named()
    try:
        _check_login(uri or place.url(_password(place.home)))
    except NoNeo4jError as error:
        print(f"down: {error}")
        return 1
    print("up" if uri is None else "up (NEO4J_URI)")
    return 0


def _password(home: Path) -> str:
    given = os.environ.get("NEO4J_PASSWORD")
    if given:
        return given
    kept = home / "password"
    if not kept.exists():
        home.mkdir(parents=True, exist_ok=True)
        _write_private(kept, secrets.token_urlsafe(18))
    return kept.read_text()


def _wait_until_it_answers(place: Place, password: str, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while _is_free(place.bolt_port):
        check()
        if time.monotonic() > deadline:
            raise NoNeo4jError(f"Neo4j did not come up in {START_TIMEOUT_S:g} s: see {place.home / 'logs'}")
        time.sleep(0.2)
    while True:
        try:
            _check_login(place.url(password))
            return
        except _NotYetError as error:
            check()
            if time.monotonic() > deadline:
                raise NoNeo4jError(f"Neo4j did not come up in {START_TIMEOUT_S:g} s: {error}") from error
            time.sleep(0.2)


class _NotYetError(NoNeo4jError):
    """It listens but does not serve yet."""


def _count_nodes(url: str) -> int:
    return int(_ask(url, "MATCH (n) RETURN count(n)"))


def _check_login(url: str) -> None:
    _ask(url, "RETURN 1")


def _ask(url: str, query: LiteralString) -> Any:
    """The one value that a query gives."""
    import neo4j
    from neo4j.exceptions import AuthError, DriverError, Neo4jError

    logging.getLogger("neo4j").addHandler(logging.NullHandler())  # what it would say, our errors say
    parts = urlsplit(url)
    bare = urlunsplit((parts.scheme, f"{parts.hostname}:{parts.port or 7687}", "", "", ""))
    database = parts.path.strip("/") or "neo4j"
    auth = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    try:
        with neo4j.GraphDatabase.driver(bare, auth=auth) as driver, driver.session(database=database) as session:
            return session.run(query).single(strict=True)[0]
    except AuthError as error:
        raise NoNeo4jError(
            f"the Neo4j at {bare} has another password: set NEO4J_PASSWORD to it, or remove its data to begin anew"
        ) from error
    except (DriverError, Neo4jError, OSError) as error:
        raise _NotYetError(f"nothing answers at {bare} ({error})") from error


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _java() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        return None
    text = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', text)
    return Path(found) if version and 17 <= int(version[1]) <= 21 else None


def _first_package(*names: str) -> str:
    for name in names:
        shown = subprocess.run(["apt-cache", "show", name], capture_output=True, check=False)
        if shown.returncode == 0 and shown.stdout:
            return name
    raise NoNeo4jError(f"apt-get knows none of {', '.join(names)}: install Java 17 and Maven, or set NEO4J_URI")


def _apt_get(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NoNeo4jError(
            f"apt-get {arguments[0]} failed: {_last_line(done.stderr)}; install Java 17 and Maven, or set NEO4J_URI"
        )


def _command_line(pid: int) -> str:
    proc = Path(f"/proc/{pid}/cmdline")
    if proc.parent.parent.joinpath("self").exists():
        return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _cause(text: str) -> str:
    """The last line that is no frame of a Java stack trace: its root cause."""
    return _last_line("\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("at ", "... "))))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
