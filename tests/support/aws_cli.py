"""An AWS CLI that is loaded only once: tests make hundreds of calls, and each is mostly start-up.

Usage: python aws_cli.py SOCKET, in the environment of tests/requirements/aws.txt. Each connection
sends the arguments, environment, folder and streams of a call, which a fork of this process makes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress

#: A program that replaces the CLI: it logs its arguments and forwards the call.
CLIENT = """\
import json, os, socket, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(["aws", *sys.argv[1:]]) + "\\n")
words = {words!r} + sys.argv[1:]
call = dict(words=words, environment=dict(os.environ), folder=os.getcwd())
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps(call).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(server.recv(1)[0])
"""
SERVICES = ("cloudformation", "ec2", "emr", "emr-serverless", "iam", "kms", "s3", "sts")


def serve(path: str) -> None:
    from awscli.clidriver import create_clidriver

    driver = create_clidriver()
    loader = driver.session.get_component("data_loader")
    for service in SERVICES:
        loader.load_service_model(service, "service-2")
        loader.load_service_model(service, "endpoint-rule-set-1")
        with suppress(Exception):  # not every service has paginators
            loader.load_service_model(service, "paginators-1")
    driver._get_command_table()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    print("ready", flush=True)
    while True:
        caller, _ = listener.accept()
        if os.fork():
            caller.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            continue
        listener.close()
        _, streams, _, _ = socket.recv_fds(caller, 1, 3)
        with caller.makefile("rb") as sent:
            code = make(driver, json.load(sent), streams)
        with suppress(OSError):
            caller.sendall(bytes([code]))
        os._exit(code)


def make(driver: object, call: dict, streams: list[int]) -> int:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    try:
        code = driver.main(call["words"])
    except SystemExit as error:
        code = error.code or 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1])
