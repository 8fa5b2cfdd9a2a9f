"""A cluster of EMR for Pomona: start it, run the job on it, end it.

Usage: python -m emr up BUCKET=… KEY=… SUBNET=… MY_IP=… [NAME=VALUE …]
       python -m emr check …, as up: it says what is wrong with these before a wheelhouse is built
       python -m emr run BUCKET=… [IMAGES=…] [OUTPUT=…] [ARGS=…]
       python -m emr down BUCKET=…

Only Python's own library is needed, and the AWS CLI. Each of its calls is printed before it is
made; DRY_RUN=1 prints a shell script of them and makes none. bootstrap/README.md tells the rest.
"""
