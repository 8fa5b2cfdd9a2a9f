"""Memory of one Featurizer with two threads over many photos.

Usage: soak.py MODEL PHOTOS COUNT

Prints the resident memory ten times, and all values as JSON at the end.
"""

import argparse
import json

from common import call_of, photos_in, status_mb

import pomona

THREADS = 2
REPORTS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("photos")
    parser.add_argument("count", type=int)
    args = parser.parse_args()
    photos = photos_in(args.photos)
    featurizer = pomona.Featurizer(args.model, threads=THREADS)
    done, resident = 0, []
    while done < args.count:
        done += len(featurizer.featurize(call_of(photos, done)))
        if done * REPORTS >= args.count * (len(resident) + 1):
            resident.append(status_mb("VmRSS"))
            print(f"{done:7,} photos  {resident[-1]:4.0f} MB", flush=True)
    print(json.dumps({"count": done, "resident_mb": resident, "peak_mb": status_mb("VmHWM")}))


if __name__ == "__main__":
    main()
