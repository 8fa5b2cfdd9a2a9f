"""How long a job takes on an EMR cluster, what it costs, and how Spark is to be set there.

No AWS call: prices and instances are those of `data/prices.json`, each with its source. The time is
that of a model whose every number is below, with where it came from. Of the reference run (22,688
photos on two m5.xlarge: 5.0 minutes reading one by one, 2.9 featurizing with Keras) it tells 4.1 of
reading (3.1 to 5.0), and 2.0 of featurizing if those cores had the 55 photos a second that Keras
has on this project's bench machine: older cores are slower, so measure on a node.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

DEFAULT_INSTANCE = "m5.xlarge"
DEFAULT_WORKERS = 2
DEFAULT_REGION = "eu-west-3"
DEFAULT_RELEASE = "emr-6.4.0"

#: What one task waits for one small object of S3: fastest and slowest of the reference system.
READ_SECONDS = (0.066, 0.106)
#: Photos that a task reads at once, as `pomona run` does. Spark's `binaryFile` reads one after
#: another.
READS_AT_ONCE = 32

#: From the request to the first step, billed: an assumption; EMR takes some 5 to 15 minutes.
PROVISIONING_SECONDS = 600.0
#: YARN's containers, the first Python workers, listing the photos: an assumption.
STARTING_SECONDS = 60.0
#: The PCA (11 s for 6,600 photos on two cores here) and writing what comes of it: an assumption.
FINISHING_SECONDS = 30.0

#: What Spark leaves of a plain loop's photos a second, without what a job costs by itself: 22.55 s
#: of 22.55 + 0.64 reading + 0.66 Arrow + 1.99 writing, by the README's bench.
SPARK_SHARE = 0.87

#: EC2 and EMR bill by the second, and at least this long.
_LEAST_BILLED_SECONDS = 60.0
#: More than a job of this kind needs, and than a new account's quota allows.
MAX_WORKERS = 50

_HOUR = 3600.0
_MINUTE = 60.0
_MIB_PER_GIB = 1024

#: Cores of an executor: EMR's best practices advise 4 or 5, and divide a node into whole ones.
_EXECUTOR_CORES = 4
#: Python workers, Arrow and ONNX Runtime live here: under 200 MB a task for small photos, by the
#: README's bench; the rest is for large ones.
_OVERHEAD_GIB_PER_CORE = 1
#: The driver's heap, and on nodes with less than 2 GiB a vCPU for YARN.
_DRIVER_GIB, _SMALL_DRIVER_GIB, _SMALL_YARN_MB_PER_VCPU = 2, 1, 2 * _MIB_PER_GIB
#: EMR's own overhead of a container (aws-emr-best-practices), and the least that Spark adds.
_OVERHEAD_SHARE, _LEAST_OVERHEAD_MB = 0.1875, 384
#: YARN hands out memory in steps (yarn.scheduler.minimum-allocation-mb).
_YARN_STEP_MB = 32


@dataclass(frozen=True)
class Price:
    """Dollars an hour for one instance."""

    usd: float
    #: Where it is from, and of which day.
    source: str
    date: str
    #: Whether it was read there; else it is a proportion, an assumption or from memory.
    read: bool


@dataclass(frozen=True)
class Instance:
    """A kind of node."""

    name: str
    #: Hyperthreads: two are one core.
    vcpus: int
    cores: int
    memory_gib: int
    #: What EMR gives to YARN.
    yarn_mb: int
    #: Whether every such processor has AVX-512 VNNI, which int8 models want.
    vnni: bool
    #: The first EMR release that lists it, such as "6.6.0"; None for all of 6 and 7.
    emr_since: str | None
    emr: Price
    #: By region.
    ec2: dict[str, Price]


@dataclass(frozen=True)
class Range:
    """What is expected, between the least and the most."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A job on a cluster. Its times differ by what S3 takes for a photo."""

    instance: str
    workers: int
    #: Workers at spot prices: all but one, which holds the driver.
    spot_workers: int
    vcpus: int
    provisioning_seconds: float
    starting_seconds: float
    reading_seconds: Range
    featurizing_seconds: float
    finishing_seconds: float
    total_seconds: Range
    #: Dollars: EC2 and EMR, for the workers and a primary node of the same kind.
    cost: Range


def instances() -> dict[str, Instance]:
    """Return the instances of the table, by name.

    Returns
    -------
    dict
        The general and the compute kinds of three generations, four to sixteen vCPUs.
    """
    return dict(_table()[0])


def spark_settings(instance: str) -> dict[str, str]:
    """Return the settings of Spark that fit the memory that YARN has on an instance.

    A node's executors and one driver fit together, since the driver of a cluster-mode or Livy
    application takes its memory from one of the workers; and on the others there is no room for
    one more executor, which would put more tasks on a node than it has vCPUs.

    Parameters
    ----------
    instance : str
        Such as "m5.xlarge".

    Returns
    -------
    dict
        Names and values for spark-defaults or ``--conf``.

    Raises
    ------
    ValueError
        If the instance is not in the table; the message lists those that are.
    """
    found = _instance(instance)
    executors = found.vcpus // _EXECUTOR_CORES
    small = found.yarn_mb < found.vcpus * _SMALL_YARN_MB_PER_VCPU
    driver = _SMALL_DRIVER_GIB if small else _DRIVER_GIB
    left_mb = found.yarn_mb - driver_container_mb(driver)
    total = left_mb // executors // _MIB_PER_GIB
    overhead = min(_EXECUTOR_CORES * _OVERHEAD_GIB_PER_CORE, -(-total // 2))
    return {
        "spark.driver.memory": f"{driver}g",
        "spark.executor.cores": str(_EXECUTOR_CORES),
        "spark.executor.memory": f"{total - overhead}g",
        "spark.executor.memoryOverhead": f"{overhead}g",
        # Spark sets it to the executor's cores: each of four tasks would start four threads.
        "spark.executorEnv.OMP_NUM_THREADS": "1",
        # Without it, Spark 3.1 gives every step after an exchange 200 tasks.
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }


def driver_container_mb(gib: int) -> int:
    """Return what YARN takes for a driver with a heap of so many GiB."""
    heap = gib * _MIB_PER_GIB
    container = heap + max(_LEAST_OVERHEAD_MB, int(heap * _OVERHEAD_SHARE))
    return -(-container // _YARN_STEP_MB) * _YARN_STEP_MB


def estimate(
    images: int,
    *,
    throughput: float,
    instance: str = DEFAULT_INSTANCE,
    workers: int = DEFAULT_WORKERS,
    spot: bool = False,
    region: str = DEFAULT_REGION,
    release: str = DEFAULT_RELEASE,
    reads_at_once: int = READS_AT_ONCE,
) -> Estimate:
    """Tell how long a job takes on a cluster and what it costs.

    Two hyperthreads are taken as one core: the models keep a core's multiply-add units busy alone.
    Where tasks read one photo after another, reading and featurizing add up; where they read many
    at once, only the reading that lasts longer than the featurizing is seen.

    Parameters
    ----------
    images : int
        Photos, of some 10 kB each: larger ones take longer to read than is said here.
    throughput : float
        Photos a second of one core of the cluster, from bytes to features, without Spark.
    instance, workers
        The kind of node, and how many beside the primary node.
    spot : bool, default False
        Whether all workers but one are spot instances.
    region, release
        Of AWS, and of EMR.
    reads_at_once : int, default 32
        Photos that a task reads at once.

    Returns
    -------
    Estimate
        Times in seconds, cost in US dollars.

    Raises
    ------
    ValueError
        If there is nothing to do or nobody to do it, or the instance, its price in the region, or
        its support by the release is not in the table.
    """
    for name, value in (
        ("images", images),
        ("workers", workers),
        ("throughput", throughput),
        ("reads_at_once", reads_at_once),
    ):
        if value <= 0:
            raise ValueError(f"{name} must be above 0, not {value:g}")
    node = _instance(instance)
    _check_release(node, release)
    featurizing = images / (workers * node.cores * throughput * SPARK_SHARE)
    fastest, slowest = (
        images * seconds / (workers * node.vcpus * reads_at_once) for seconds in READ_SECONDS
    )
    hidden = featurizing if reads_at_once > 1 else 0.0
    reading = [max(0.0, r - hidden) for r in (fastest, (fastest + slowest) / 2, slowest)]
    fixed = PROVISIONING_SECONDS + STARTING_SECONDS + featurizing + FINISHING_SECONDS
    total = [fixed + seconds for seconds in reading]
    spot_workers = workers - 1 if spot else 0
    an_hour = _an_hour(node, region, on_demand=1 + workers - spot_workers, spot=spot_workers)
    billed = (max(_LEAST_BILLED_SECONDS, seconds) for seconds in total)
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
        cost=Range(*(seconds / _HOUR * an_hour for seconds in billed)),
    )


def within(
    deadline: float,
    images: int,
    *,
    throughput: float,
    spot: bool = False,
    region: str = DEFAULT_REGION,
    release: str = DEFAULT_RELEASE,
    reads_at_once: int = READS_AT_ONCE,
) -> list[Estimate]:
    """Find the cheapest cluster of each kind that is done in time, even with a slow S3.

    Parameters
    ----------
    deadline : float
        Minutes from the request for a cluster to the results.
    images, throughput, spot, region, release, reads_at_once
        As for :func:`estimate`.

    Returns
    -------
    list of Estimate
        The cheapest first.

    Raises
    ------
    ValueError
        If no cluster of up to 50 workers is: the message says how long the fastest takes.
    """
    kinds = [node.name for node in instances().values() if _is_listed(node, release)]
    clusters = [
        [
            estimate(
                images,
                throughput=throughput,
                instance=kind,
                workers=workers,
                spot=spot,
                region=region,
                release=release,
                reads_at_once=reads_at_once,
            )
            for workers in range(1, MAX_WORKERS + 1)
        ]
        for kind in kinds
    ]
    in_time = (
        [one for one in same if one.total_seconds.high <= deadline * _MINUTE] for same in clusters
    )
    cheapest = [min(same, key=lambda one: one.cost.expected) for same in in_time if same]
    if not cheapest:
        every = (one for same in clusters for one in same)
        fastest = min(every, key=lambda one: one.total_seconds.high)
        least = fastest.total_seconds.high / _MINUTE
        raise ValueError(
            f"no cluster of up to {MAX_WORKERS} workers is done in {deadline:g} minutes: the "
            f"least is {least:.1f}, with {fastest.workers} {fastest.instance}, and "
            f"{PROVISIONING_SECONDS / _MINUTE:g} of them pass before a cluster has started"
        )
    return sorted(cheapest, key=lambda one: one.cost.expected)


def prices_of(instance: str, region: str) -> tuple[Price, Price]:
    """Return the prices of EC2 and of EMR for an instance.

    Raises
    ------
    ValueError
        If the table does not have the instance or the region.
    """
    node = _instance(instance)
    if region not in node.ec2:
        raise ValueError(
            f"there are no prices of {node.name} in {region!r}; known: {', '.join(node.ec2)}"
        )
    return node.ec2[region], node.emr


def spot_share() -> float:
    """Return what a spot instance is taken to cost, as a share of its price on demand."""
    return _table()[1]


def _an_hour(node: Instance, region: str, *, on_demand: int, spot: int) -> float:
    ec2, emr = prices_of(node.name, region)
    # EMR's fee is the same for spot instances.
    return (on_demand + spot * spot_share()) * ec2.usd + (on_demand + spot) * emr.usd


def _instance(name: str) -> Instance:
    known = _table()[0]
    if name not in known:
        raise ValueError(f"there is no instance {name!r} in the table; known: {', '.join(known)}")
    return known[name]


def _check_release(node: Instance, release: str) -> None:
    if not _is_listed(node, release):
        raise ValueError(
            f"EMR offers {node.name} from release emr-{node.emr_since} on, not with {release}"
        )


def _is_listed(node: Instance, release: str) -> bool:
    asked = _version(release)
    return node.emr_since is None or asked >= _version(node.emr_since)


def _version(release: str) -> tuple[int, ...]:
    numbers = (release[len("emr-") :] if release.startswith("emr-") else release).split(".")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"{release!r} is not an EMR release such as {DEFAULT_RELEASE}")
    return tuple(int(number) for number in numbers)


@lru_cache(maxsize=None)
def _table() -> tuple[dict[str, Instance], float]:
    path = Path(__file__).with_name("data") / "prices.json"
    table = json.loads(path.read_text(encoding="utf-8"))

    def price(entry: dict[str, Any]) -> Price:
        source = table["sources"][entry["source"]]
        return Price(entry["usd"], source["what"], source["date"], source["read"])

    rows = {
        name: Instance(
            name=name,
            vcpus=row["vcpus"],
            cores=row["cores"],
            memory_gib=row["memory_gib"],
            yarn_mb=row["yarn_mb"]["value"],
            vnni=row["vnni"],
            emr_since=row["emr_since"],
            emr=price(row["emr"]),
            ec2={region: price(entry) for region, entry in row["ec2"].items()},
        )
        for name, row in table["instances"].items()
    }
    return rows, table["spot"]["share_of_on_demand"]
