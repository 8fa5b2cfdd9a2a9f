"""`pomona.bench` as a contender: models on one thread and on two, compared with the peak.

Usage: peak.py PHOTOS SECONDS MODEL...
"""

import json
import sys
from dataclasses import asdict

from pomona.bench import measure

THREADS = (1, 2)


def main():
    photos, seconds, *models = sys.argv[1:]
    bench = measure(models, threads=THREADS, seconds=float(seconds), images=photos)
    print(json.dumps(asdict(bench)))


if __name__ == "__main__":
    main()
