"""A Spark cluster on this machine, in which each executor is a process, as on any cluster."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

JAVA = 17
LOG_SETTINGS = """\
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c: %m%n%ex
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster, which writes into *folder* only."""

    spark: SparkSession
    folder: Path

    @property
    def temp_files(self) -> Path:
        """The folder of the executors' temporary files."""
        return self.folder / "scratch"

    def logs(self) -> dict[str, bytes]:
        """Return the logs of driver and executors, and the event log behind Spark's UI, by name."""
        files = [
            path
            for place in ("logs", "events", "home/work")
            for path in (self.folder / place).rglob("*")
            if path.is_file()
        ]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}

    def executors(self) -> set[int]:
        """Return the process ids of the executors."""
        return {
            pid
            for pid in _children()
            if str(self.folder).encode() in _command(pid)
            and b"CoarseGrainedExecutorBackend" in _command(pid)
        }

    def executor_at_work(self) -> int | None:
        """Return the id of an executor that is processing a file at this moment."""
        parents, executors = _children(), self.executors()
        for path in self.temp_files.glob("ometria-replica-*/feed-*"):
            pid = int(path.parent.name.split("-")[2])
            while pid in parents and pid not in executors:
                pid = parents[pid]
            if pid in executors:
                return pid
        return None


def kill(pid: int) -> None:
    """Kill a process and wait until it has ended."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in _children(), 10)


def wait_until(condition: Any, seconds: float, *, every: float = 0.005) -> Any:
    """Return the first true result of *condition*; fail after *seconds*."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(every)
    raise AssertionError(f"the condition was not true within {seconds} s")


@contextmanager
def local_cluster(folder: Path) -> Iterator[Cluster]:
    """Run two executors of one core each, on the loopback interface and in *folder* only."""
    home = _home(folder)
    for name in ("scratch", "events", "logs", "local"):
        (folder / name).mkdir()
    settings = folder / "log4j2.properties"
    settings.write_text(LOG_SETTINGS.format(log=folder / "logs" / "driver.log"))
    environment = {
        "SPARK_HOME": str(home),
        "SPARK_CONF_DIR": str(home / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    config = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{settings}",
        "spark.executorEnv.TMPDIR": str(folder / "scratch"),
        "spark.executorEnv.AWS_EC2_METADATA_DISABLED": "true",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": f"file:{folder / 'events'}",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        spark = _session(config)
        try:
            yield Cluster(spark, folder)
        finally:
            _stop(spark)


def _session(config: dict[str, str]) -> SparkSession:
    from pyspark.sql import SparkSession  # noqa: PLC0415 -- After the environment is set.

    builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("backfill")
    for name, value in config.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _stop(spark: SparkSession) -> None:
    """Stop Spark and its Java process, which would otherwise live as long as Python."""
    from pyspark import SparkContext  # noqa: PLC0415 -- As above.

    gateway: Any = SparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(30)
    SparkContext._gateway = SparkContext._jvm = None
    gc.collect()  # Unclosed resources raise their warnings here, not in a later test.


def _home(folder: Path) -> Path:
    """Link Spark's home into *folder*: its workers write into the folder ``work`` there."""
    home = folder / "home"
    home.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        if path.name not in {"work", "conf"}:
            (home / path.name).symlink_to(path)
    (home / "conf").mkdir()
    return home


def java_is_missing() -> str | None:
    """Return the reason why Spark cannot start here; None if it can."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        return f"Spark needs Java {JAVA} or newer, and `java` is not installed"
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', output)
    if found is None or int(found.group(1)) < JAVA:
        return f"Spark needs Java {JAVA} or newer; `java -version` shows another version"
    return None


def _children() -> dict[int, int]:
    """Return the parent of each process below this one, by process id."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except OSError:  # The process has ended meanwhile.
            continue
        if after_name[0] != "Z":
            parents[int(path.parent.name)] = int(after_name[1])
    return {pid: parent for pid, parent in parents.items() if _is_ours(pid, parents)}


def _is_ours(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
