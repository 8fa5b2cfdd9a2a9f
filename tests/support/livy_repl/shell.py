"""The Python process of a Livy session: runs statements and returns their output.

Reads one JSON object per line, ``{"id": 3, "code": "…"}``, and writes Livy's result of each
statement as one line. The output of a statement is part of its result.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession


def main() -> None:
    # Keep results apart from the output of child processes, which write to file descriptor 1.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    names = session()
    for line in sys.stdin:
        request = json.loads(line)
        names["spark"].sparkContext.setJobGroup(
            str(request["id"]), f"Job group for statement {request['id']}"
        )
        result = run(request["code"], names)
        print(json.dumps({"execution_count": request["id"], **result}), file=answers, flush=True)


def session() -> dict[str, Any]:
    """Connect to the driver's Spark; return the variables for statements."""
    gateway = launch_gateway()
    java = gateway.entry_point.sc()
    conf = SparkConf(_jvm=gateway.jvm, _jconf=java.getConf())
    context = SparkContext(jsc=java, gateway=gateway, conf=conf)
    spark = SparkSession(context, gateway.entry_point.sparkSession())
    return {"__name__": "__main__", "sc": context, "spark": spark}


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a statement. Lines that start with % are commands of Livy."""
    said, shown = io.StringIO(), {}
    try:
        with redirect_stdout(said), redirect_stderr(said):
            for part in parts(code):
                if part.startswith("%"):
                    shown.update(show(part, names))
                else:
                    execute(part, names)
    except BaseException as error:  # including SystemExit, which must not end the session
        return {
            "status": "error",
            "ename": type(error).__name__,
            "evalue": str(error),
            "traceback": traceback.format_exception(type(error), error, error.__traceback__),
        }
    text = said.getvalue().rstrip()
    return {"status": "ok", "data": {"text/plain": text, **shown} if text or not shown else shown}


def parts(code: str) -> list[str]:
    """Split a statement into Python code and commands."""
    parts = [""]
    for line in code.splitlines(keepends=True):
        if line.startswith("%"):
            parts += [line, ""]
        else:
            parts[-1] += line
    return [part for part in parts if part.strip()]


def execute(code: str, names: dict[str, Any]) -> None:
    """Run Python code. If it ends in an expression, print its value, as a prompt does."""
    body = ast.parse(code, "<stdin>").body
    tree = ast.parse("")
    tree.body = body[:-1]
    exec(compile(tree, "<stdin>", "exec"), names)  # noqa: S102
    exec(compile(ast.Interactive(body[-1:]), "<stdin>", "single"), names)  # noqa: S102


def show(command: str, names: dict[str, Any]) -> dict[str, str]:
    """Run a command: `%matplot plt` returns the current figure."""
    name, _, argument = command.strip()[1:].partition(" ")
    if name != "matplot":
        raise NotImplementedError(f"%{name}: this Livy supports %matplot only")
    image = io.BytesIO()
    names[argument].gcf().savefig(image, format="png")
    return {"image/png": base64.b64encode(image.getvalue()).decode()}


if __name__ == "__main__":
    main()
