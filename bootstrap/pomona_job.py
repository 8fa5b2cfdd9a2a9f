"""Runs `pomona run` as a Spark job, in client or cluster mode.

Usage: spark-submit [--deploy-mode cluster] pomona_job.py --images URI --output URI [--model M] …
"""

import sys

from pomona.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
