"""Estimates of the time and cost of a job on an EMR cluster or EMR Serverless, and Spark settings.

Nothing here calls AWS: prices and instances come from `data/prices.json`, with their sources. The
time comes from a model whose constants are below, with their origin. For the reference run (22,688
photos on two m5.xlarge: 5.0 minutes to read them one by one, 2.9 to featurize them with Keras) it
predicts 4.1 minutes of reading (3.1 to 5.0), and 2.0 of featurizing at the 55 photos per second and
core that Keras reaches on this project's bench machine. Older cores are slower: measure on a node.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pomona._deprecated import renamed_arguments

DEFAULT_INSTANCE = "m5.xlarge"
DEFAULT_WORKERS = 2
DEFAULT_REGION = "eu-west-3"
DEFAULT_RELEASE = "emr-6.4.0"

#: Latency of a small object on S3 for one task: fastest and slowest in the reference run.
READ_SECONDS = (0.066, 0.106)
#: Photos that a task of `pomona run` reads concurrently. Spark's `binaryFile` reads one at a time.
CONCURRENCY = 32

#: Decoding time of a photo relative to a JPEG with as many pixels. From photos of 12 megapixels on
#: one core (docs/formats.md): 0.58 s for HEIC, 0.28 s for AVIF, 0.058 s for JPEG.
DECODE_TIMES = {"HEIC": 10, "AVIF": 5}

#: From the request to the first step, billed. An assumption: EMR takes 5 to 15 minutes.
PROVISIONING_SECONDS = 600.0
#: From the job's submission until EMR Serverless has its workers ready; not billed. An assumption:
#: AWS's guide gives no time for workers that are not kept ready. Projects saw 1 to 2 minutes.
SERVERLESS_PROVISIONING_SECONDS = 90.0
#: To start YARN's containers and the Python workers, and to list the photos. An assumption.
STARTING_SECONDS = 60.0
#: To fit the PCA (11 s for 6,600 photos on two cores) and write the projection. An assumption.
FINISHING_SECONDS = 30.0

#: Throughput on Spark as a share of a plain loop's, not counting a job's fixed time: 22.55 s of
#: 22.55 + 0.64 reading + 0.66 Arrow + 1.99 writing, from the bench in the README.
SPARK_SHARE = 0.87

#: EC2, EMR and every worker of EMR Serverless are billed by the second, with this minimum.
_MIN_BILLED_SECONDS = 60.0
#: More than such a job needs, and more than a new account's quota allows.
MAX_WORKERS = 50

#: The first EMR release that EMR Serverless offers.
SERVERLESS_RELEASE = "emr-6.6.0"
#: vCPUs that an account may use at the same time on EMR Serverless, unless it asks for more
#: (EMR Serverless User Guide, "Endpoints and quotas").
SERVERLESS_QUOTA_VCPUS = 16
#: Storage of a worker that is free, and enough for a job.
SERVERLESS_DISK_GB = 20

_HOUR = 3600.0
_MINUTE = 60.0
_MIB_PER_GIB = 1024
_VCPUS_PER_CORE = 2

#: EMR's best practices advise 4 or 5 cores per executor; 4 divides every node without a remainder.
_EXECUTOR_CORES = 4
#: For Python workers, Arrow and ONNX Runtime: under 200 MB per task for small photos, according to
#: the bench in the README. The rest is headroom for large photos.
_OVERHEAD_GIB_PER_CORE = 1
#: The driver's heap. The small one is for nodes that give YARN less than 2 GiB per vCPU.
_DRIVER_GIB, _SMALL_DRIVER_GIB, _SMALL_YARN_MB_PER_VCPU = 2, 1, 2 * _MIB_PER_GIB
#: Memory overhead of a container on EMR (aws-emr-best-practices), and Spark's minimum.
_OVERHEAD_SHARE, _MIN_OVERHEAD_MB = 0.1875, 384
#: YARN allocates memory in multiples of this (yarn.scheduler.minimum-allocation-mb).
_YARN_STEP_MB = 32


#: Spark settings that do not depend on the size of a node.
_SETTINGS = {
    # Spark's default is the executor's number of cores: 4 tasks would start 4 threads each.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    # Otherwise Spark 3.1 runs 200 tasks after every shuffle.
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}

#: Names of the types with AWS's arm64 processors, such as m6g.xlarge, c7gn.xlarge and a1.xlarge.
_GRAVITON = re.compile(r"(a1|[a-z]+\d+g[a-z]*)\.")


@dataclass(frozen=True)
class Price:
    """Price of one instance, vCPU or GB of memory for an hour, in US dollars."""

    usd: float
    #: The source of the price, and its date.
    source: str
    date: str
    #: Whether the price was read from the source; if not, it is derived, assumed or from memory.
    read: bool


@dataclass(frozen=True)
class Instance:
    """An instance type."""

    name: str
    #: Hyperthreads, two per core.
    vcpus: int
    cores: int
    memory_gib: int
    #: Memory that EMR gives to YARN.
    yarn_mb: int
    #: Whether every node of this type has AVX-512 VNNI, which makes int8 models fast.
    vnni: bool
    #: The first EMR release that supports it, such as "6.6.0"; None for all of 6.x and 7.x.
    emr_since: str | None
    #: Types of the same size, which a fleet of task nodes takes as well on spot. Every release that
    #: supports this type supports them.
    alternatives: tuple[str, ...]
    emr: Price
    #: Price of the instance itself, by region.
    ec2: dict[str, Price]


@dataclass(frozen=True)
class Worker:
    """Size of a worker of EMR Serverless."""

    vcpus: int
    heap_gb: int
    #: Outside Java's heap, for Python.
    overhead_gb: int

    @property
    def memory_gb(self) -> int:
        """The memory that is billed."""
        return self.heap_gb + self.overhead_gb


#: The workers of a job on EMR Serverless. AWS has 8 to 30 GB for 4 vCPUs, and 4 to 16 for 2.
SERVERLESS_EXECUTOR = Worker(vcpus=4, heap_gb=5, overhead_gb=4)
SERVERLESS_DRIVER = Worker(vcpus=2, heap_gb=3, overhead_gb=3)


class ServerlessPrices(NamedTuple):
    """Prices of EMR Serverless on x86-64 for an hour of one vCPU, and of one GB of memory."""

    vcpu: Price
    gb: Price


@dataclass(frozen=True)
class Range:
    """An expected value and its bounds."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """Time and cost of a job on a cluster. The ranges come from the latency of S3."""

    instance: str
    workers: int
    #: Workers at spot prices: all but the one that runs the driver.
    spot_workers: int
    vcpus: int
    provisioning_seconds: float
    starting_seconds: float
    reading_seconds: Range
    featurizing_seconds: float
    finishing_seconds: float
    total_seconds: Range
    #: US dollars, for EC2 and EMR: the workers and a primary node of the same type.
    cost: Range


@dataclass(frozen=True)
class ServerlessEstimate:
    """Time and cost of a job on EMR Serverless. The ranges come from the latency of S3."""

    executors: int
    #: Of the executors and the driver.
    vcpus: int
    memory_gb: int
    #: Not billed.
    provisioning_seconds: float
    starting_seconds: float
    reading_seconds: Range
    featurizing_seconds: float
    finishing_seconds: float
    total_seconds: Range
    #: What the workers are billed for, if S3 is as fast as expected.
    vcpu_hours: float
    gb_hours: float
    #: US dollars.
    cost: Range


def instances() -> dict[str, Instance]:
    """Return the instance types that have prices, by name.

    Returns
    -------
    dict
        General-purpose and compute-optimized types of three generations, 4 to 16 vCPUs.
    """
    return dict(_table().instances)


def spark_settings(instance: str) -> dict[str, str]:
    """Return Spark settings that fit the memory of YARN on an instance type.

    A node has room for its executors and one driver, because the driver of a cluster-mode or Livy
    application runs on one of the workers. The other workers have no room for one more executor,
    which would give a node more tasks than vCPUs.

    Parameters
    ----------
    instance : str
        An instance type, such as "m5.xlarge".

    Returns
    -------
    dict
        Settings for spark-defaults or ``--conf``.

    Raises
    ------
    ValueError
        If the table does not have the instance type; the message lists those that it has.
    """
    node = _instance(instance)
    executors = node.vcpus // _EXECUTOR_CORES
    small = node.yarn_mb < node.vcpus * _SMALL_YARN_MB_PER_VCPU
    driver = _SMALL_DRIVER_GIB if small else _DRIVER_GIB
    left_mb = node.yarn_mb - driver_container_mb(driver)
    total = left_mb // executors // _MIB_PER_GIB
    overhead = min(_EXECUTOR_CORES * _OVERHEAD_GIB_PER_CORE, -(-total // 2))
    return {
        "spark.driver.memory": f"{driver}g",
        "spark.executor.cores": str(_EXECUTOR_CORES),
        "spark.executor.memory": f"{total - overhead}g",
        "spark.executor.memoryOverhead": f"{overhead}g",
        **_SETTINGS,
    }


def serverless_settings(executors: int = DEFAULT_WORKERS) -> dict[str, str]:
    """Return Spark settings for a job on EMR Serverless, which give its workers their size.

    Parameters
    ----------
    executors : int, default 2
        Number of workers that featurize, in addition to the driver's.

    Returns
    -------
    dict
        Settings for the ``sparkSubmitParameters`` of a job run, or its ``spark-defaults``.
    """
    settings = {
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.instances": str(executors),
    }
    for name, worker in (("driver", SERVERLESS_DRIVER), ("executor", SERVERLESS_EXECUTOR)):
        settings[f"spark.{name}.cores"] = str(worker.vcpus)
        settings[f"spark.{name}.memory"] = f"{worker.heap_gb}g"
        settings[f"spark.{name}.memoryOverhead"] = f"{worker.overhead_gb}g"
    return {**settings, **_SETTINGS}


def driver_container_mb(gib: int) -> int:
    """Return the memory that YARN allocates for a driver with a heap of `gib` GiB."""
    heap = gib * _MIB_PER_GIB
    container = heap + max(_MIN_OVERHEAD_MB, int(heap * _OVERHEAD_SHARE))
    return -(-container // _YARN_STEP_MB) * _YARN_STEP_MB


@renamed_arguments(images="photos", reads_at_once="concurrency")
def estimate(
    photos: int,
    *,
    throughput: float,
    instance: str = DEFAULT_INSTANCE,
    workers: int = DEFAULT_WORKERS,
    spot: bool = False,
    region: str = DEFAULT_REGION,
    release: str = DEFAULT_RELEASE,
    concurrency: int = CONCURRENCY,
) -> Estimate:
    """Estimate the time and cost of a job on a cluster.

    Two hyperthreads count as one core, because one is enough to keep its multiply-add units busy.
    If tasks read photos one by one, the times for reading and featurizing add up. If they read
    concurrently, only the part of reading that takes longer than featurizing adds to the total.

    Parameters
    ----------
    photos : int
        Number of photos, of about 10 kB each. Larger photos take longer to read than estimated.
    throughput : float
        Photos per second of one core of the cluster, from encoded photos to features, without
        Spark.
    instance : str, default "m5.xlarge"
        The instance type of the nodes.
    workers : int, default 2
        Number of nodes in addition to the primary node.
    spot : bool, default False
        Whether all workers but one are spot instances.
    region : str, default "eu-west-3"
        The AWS region.
    release : str, default "emr-6.4.0"
        The EMR release.
    concurrency : int, default 32
        Photos that a task reads concurrently.

    Returns
    -------
    Estimate
        Times in seconds, cost in US dollars.

    Raises
    ------
    ValueError
        If a number is not above 0, the table does not have the instance type or its price in the
        region, or the release does not support it.
    """
    _check_above_zero(photos=photos, workers=workers, throughput=throughput)
    check_release(instance, release)
    node = _instance(instance)
    featurizing, reading = _work(
        photos, workers * node.vcpus, throughput=throughput, concurrency=concurrency
    )
    fixed = PROVISIONING_SECONDS + STARTING_SECONDS + featurizing + FINISHING_SECONDS
    total = [fixed + seconds for seconds in reading]
    spot_workers = workers - 1 if spot else 0
    hourly = _hourly_cost(node, region, on_demand=1 + workers - spot_workers, spot=spot_workers)
    billed = (max(_MIN_BILLED_SECONDS, seconds) for seconds in total)
    return Estimate(
        instance=node.name,
        workers=workers,
        spot_workers=spot_workers,
        vcpus=(1 + workers) * node.vcpus,
        provisioning_seconds=PROVISIONING_SECONDS,
        starting_seconds=STARTING_SECONDS,
        reading_seconds=Range(*reading),
        featurizing_seconds=featurizing,
        finishing_seconds=FINISHING_SECONDS,
        total_seconds=Range(*total),
        cost=Range(*(seconds / _HOUR * hourly for seconds in billed)),
    )


def serverless(
    photos: int,
    *,
    throughput: float,
    executors: int = DEFAULT_WORKERS,
    region: str = DEFAULT_REGION,
    concurrency: int = CONCURRENCY,
) -> ServerlessEstimate:
    """Estimate the time and cost of a job on EMR Serverless.

    The model is that of :func:`estimate`: the executors have vCPUs like those of EC2, two on a
    core, and take as long as nodes to start Spark. Every worker is billed from the moment when all
    are ready to the job's end.

    Parameters
    ----------
    photos, throughput, region, concurrency
        As for :func:`estimate`.
    executors : int, default 2
        Number of workers of 4 vCPUs, in addition to the driver's.

    Returns
    -------
    ServerlessEstimate
        Times in seconds, cost in US dollars.

    Raises
    ------
    ValueError
        If a number is not above 0, or the table does not have the region's prices.
    """
    _check_above_zero(photos=photos, executors=executors, throughput=throughput)
    prices = serverless_prices(region)
    featurizing, reading = _work(
        photos,
        executors * SERVERLESS_EXECUTOR.vcpus,
        throughput=throughput,
        concurrency=concurrency,
    )
    vcpus = executors * SERVERLESS_EXECUTOR.vcpus + SERVERLESS_DRIVER.vcpus
    memory_gb = executors * SERVERLESS_EXECUTOR.memory_gb + SERVERLESS_DRIVER.memory_gb
    running = [STARTING_SECONDS + featurizing + seconds + FINISHING_SECONDS for seconds in reading]
    billed = [max(_MIN_BILLED_SECONDS, seconds) / _HOUR for seconds in running]
    hourly = vcpus * prices.vcpu.usd + memory_gb * prices.gb.usd
    _, expected, _ = billed
    return ServerlessEstimate(
        executors=executors,
        vcpus=vcpus,
        memory_gb=memory_gb,
        provisioning_seconds=SERVERLESS_PROVISIONING_SECONDS,
        starting_seconds=STARTING_SECONDS,
        reading_seconds=Range(*reading),
        featurizing_seconds=featurizing,
        finishing_seconds=FINISHING_SECONDS,
        total_seconds=Range(*(SERVERLESS_PROVISIONING_SECONDS + seconds for seconds in running)),
        vcpu_hours=expected * vcpus,
        gb_hours=expected * memory_gb,
        cost=Range(*(hours * hourly for hours in billed)),
    )


def executors_for(cluster: Estimate) -> int:
    """Return the number of executors that have as many vCPUs as the workers of a cluster."""
    node = _instance(cluster.instance)
    return cluster.workers * node.vcpus // SERVERLESS_EXECUTOR.vcpus


def break_even(
    *,
    throughput: float,
    instance: str = DEFAULT_INSTANCE,
    workers: int = DEFAULT_WORKERS,
    spot: bool = False,
    region: str = DEFAULT_REGION,
    release: str = DEFAULT_RELEASE,
    concurrency: int = CONCURRENCY,
) -> int | None:
    """Return the number of photos from which a cluster costs less than as many vCPUs serverless.

    Parameters
    ----------
    throughput, instance, workers, spot, region, release, concurrency
        As for :func:`estimate`.

    Returns
    -------
    int or None
        None if EMR Serverless costs less for any number of photos.
    """

    def saved(photos: int) -> float:
        cluster = estimate(
            photos,
            throughput=throughput,
            instance=instance,
            workers=workers,
            spot=spot,
            region=region,
            release=release,
            concurrency=concurrency,
        )
        alone = serverless(
            photos,
            throughput=throughput,
            executors=executors_for(cluster),
            region=region,
            concurrency=concurrency,
        )
        return cluster.cost.expected - alone.cost.expected

    # Both costs are linear in the number of photos.
    span = 1_000_000
    first, last = saved(1), saved(1 + span)
    if last >= first:
        return None
    return 1 + max(0, math.ceil(span * first / (first - last)))


@renamed_arguments(images="photos", reads_at_once="concurrency")
def within(
    deadline: float,
    photos: int,
    *,
    throughput: float,
    spot: bool = False,
    region: str = DEFAULT_REGION,
    release: str = DEFAULT_RELEASE,
    concurrency: int = CONCURRENCY,
) -> list[Estimate]:
    """Find the cheapest cluster of each instance type that meets a deadline, even if S3 is slow.

    Parameters
    ----------
    deadline : float
        Minutes from the request for the cluster to the results.
    photos, throughput, spot, region, release, concurrency
        As for :func:`estimate`.

    Returns
    -------
    list of Estimate
        The cheapest first.

    Raises
    ------
    ValueError
        If no cluster of up to 50 workers does; the message has the time of the fastest.
    """
    estimates = [
        estimate(
            photos,
            throughput=throughput,
            instance=node.name,
            workers=workers,
            spot=spot,
            region=region,
            release=release,
            concurrency=concurrency,
        )
        for node in instances().values()
        if _is_supported(node, release)
        for workers in range(1, MAX_WORKERS + 1)
    ]
    cheapest: dict[str, Estimate] = {}
    for one in sorted(estimates, key=lambda one: one.cost.expected):
        if one.total_seconds.high <= deadline * _MINUTE:
            cheapest.setdefault(one.instance, one)
    if not cheapest:
        fastest = min(estimates, key=lambda one: one.total_seconds.high)
        raise ValueError(
            f"no cluster of up to {MAX_WORKERS} workers finishes in {deadline:g} minutes: the "
            f"fastest takes {fastest.total_seconds.high / _MINUTE:.1f}, with {fastest.workers} "
            f"{fastest.instance}, including {PROVISIONING_SECONDS / _MINUTE:g} to start the cluster"
        )
    return list(cheapest.values())


def check_release(instance: str, release: str) -> None:
    """Check that an EMR release supports an instance type.

    Raises
    ------
    ValueError
        If it does not; the message names the first release that does. Also if the table does not
        have the instance type, or `release` is not a release such as "emr-6.4.0".
    """
    node = _instance(instance)
    if not _is_supported(node, release):
        raise ValueError(
            f"{node.name} needs EMR release emr-{node.emr_since} or later, not {release}"
        )


def prices_of(instance: str, region: str) -> tuple[Price, Price]:
    """Return the EC2 and EMR prices of an instance type.

    Raises
    ------
    ValueError
        If the table does not have the instance type or the region.
    """
    node = _instance(instance)
    if region not in node.ec2:
        raise ValueError(
            f"no price of {node.name} in {region!r} is known, only in {', '.join(node.ec2)}"
        )
    return node.ec2[region], node.emr


def serverless_prices(region: str = DEFAULT_REGION) -> ServerlessPrices:
    """Return the prices of EMR Serverless in a region.

    Raises
    ------
    ValueError
        If the table does not have the region.
    """
    known = _table().serverless
    if region not in known:
        raise ValueError(
            f"no price of EMR Serverless in {region!r} is known, only in {', '.join(known)}"
        )
    return known[region]


def spot_share() -> float:
    """Return the assumed price of a spot instance, as a share of the on-demand price."""
    return _table().spot_share


def _check_above_zero(**numbers: float) -> None:
    for name, value in numbers.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, not {value:g}")


def _work(
    photos: int, vcpus: int, *, throughput: float, concurrency: int
) -> tuple[float, tuple[float, float, float]]:
    """Return the seconds to featurize, and those that reading adds: least, expected and most."""
    _check_above_zero(concurrency=concurrency)
    featurizing = photos / (vcpus / _VCPUS_PER_CORE * throughput * SPARK_SHARE)
    fastest, slowest = (photos * seconds / (vcpus * concurrency) for seconds in READ_SECONDS)
    hidden = featurizing if concurrency > 1 else 0.0
    low, expected, high = (
        max(0.0, seconds - hidden) for seconds in (fastest, (fastest + slowest) / 2, slowest)
    )
    return featurizing, (low, expected, high)


def _hourly_cost(node: Instance, region: str, *, on_demand: int, spot: int) -> float:
    ec2, emr = prices_of(node.name, region)
    # EMR charges the same fee for spot instances.
    return (on_demand + spot * spot_share()) * ec2.usd + (on_demand + spot) * emr.usd


def _instance(name: str) -> Instance:
    known = _table().instances
    if _GRAVITON.match(name):
        raise ValueError(f"{name} has an arm64 processor, for which Pomona has no wheel yet")
    if name not in known:
        raise ValueError(f"unknown instance type {name!r}; known: {', '.join(known)}")
    return known[name]


def _is_supported(node: Instance, release: str) -> bool:
    version = _version(release)
    return node.emr_since is None or version >= _version(node.emr_since)


def _version(release: str) -> tuple[int, ...]:
    numbers = (release[len("emr-") :] if release.startswith("emr-") else release).split(".")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"{release!r} is not an EMR release such as {DEFAULT_RELEASE}")
    return tuple(int(number) for number in numbers)


class _Table(NamedTuple):
    instances: dict[str, Instance]
    spot_share: float
    serverless: dict[str, ServerlessPrices]


@lru_cache(maxsize=None)
def _table() -> _Table:
    path = Path(__file__).with_name("data") / "prices.json"
    table = json.loads(path.read_text(encoding="utf-8"))

    def price(entry: dict[str, Any]) -> Price:
        source = table["sources"][entry["source"]]
        return Price(entry["usd"], source["what"], source["date"], source["read"])

    def alternatives(name: str) -> tuple[str, ...]:
        family, _, size = name.partition(".")
        return tuple(f"{other}.{size}" for other in table["alternatives"]["families"][family])

    rows = {
        name: Instance(
            name=name,
            vcpus=row["vcpus"],
            cores=row["cores"],
            memory_gib=row["memory_gib"],
            yarn_mb=row["yarn_mb"]["value"],
            vnni=row["vnni"],
            emr_since=row["emr_since"],
            alternatives=alternatives(name),
            emr=price(row["emr"]),
            ec2={region: price(entry) for region, entry in row["ec2"].items()},
        )
        for name, row in table["instances"].items()
    }
    serverless = {
        region: ServerlessPrices(vcpu=price(entry["vcpu"]), gb=price(entry["gb"]))
        for region, entry in table["serverless"]["regions"].items()
    }
    return _Table(rows, table["spot"]["share_of_on_demand"], serverless)
