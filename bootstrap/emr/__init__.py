"""Deploys bootstrap/cluster.yaml, an EMR cluster for Pomona, runs the job on it, and deletes it.

Usage: python -m emr up BUCKET=… KEY=… SUBNET=… MY_IP=… [NAME=VALUE …]
       python -m emr check …, like up: validates the settings before a wheelhouse is built
       python -m emr run BUCKET=… [IMAGES=…] [OUTPUT=…] [ARGS=…]
       python -m emr down BUCKET=…
       python -m emr serverless-run BUCKET=… [IMAGES=…] [OUTPUT=…] [ARGS=…]
       python -m emr serverless-down BUCKET=…

Needs the AWS CLI, Python's standard library and this repository's python/ folder on the path, but
neither numpy nor Pomona's extension. Prints every call of the AWS CLI before it makes it; DRY_RUN=1
prints what it would deploy and calls nothing. bootstrap/README.md is the guide.
"""
