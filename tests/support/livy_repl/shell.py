"""The Python of a Livy session: runs statements and answers with what they say and show.

Reads a JSON object a line, ``{"id": 3, "code": "…"}``, and writes Livy's result of that statement,
one line each. Whatever the statements print is part of their results.
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
    # Statements may write to the file behind sys.stdout, as a child process does.
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
    """Join the driver's Spark; return the names that statements find."""
    gateway = launch_gateway()
    java = gateway.entry_point.sc()
    conf = SparkConf(_jvm=gateway.jvm, _jconf=java.getConf())
    context = SparkContext(jsc=java, gateway=gateway, conf=conf)
    spark = SparkSession(context, gateway.entry_point.sparkSession())
    return {"__name__": "__main__", "sc": context, "spark": spark}


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a statement; lines that begin with % are Livy's own commands."""
    said, shown = io.StringIO(), {}
    try:
        with redirect_stdout(said), redirect_stderr(said):
            for part in parts(code):
                if part.startswith("%"):
                    shown.update(show(part, names))
                else:
                    execute(part, names)
    except BaseException as error:  # SystemExit is no reason to end the session either
        return {
            "status": "error",
            "ename": type(error).__name__,
            "evalue": str(error),
            "traceback": traceback.format_exception(type(error), error, error.__traceback__),
        }
    text = said.getvalue().rstrip()
    return {"status": "ok", "data": {"text/plain": text, **shown} if text or not shown else shown}


def parts(code: str) -> list[str]:
    """Split a statement into Python and commands."""
    found = [""]
    for line in code.splitlines(keepends=True):
        if line.startswith("%"):
            found += [line, ""]
        else:
            found[-1] += line
    return [part for part in found if part.strip()]


def execute(code: str, names: dict[str, Any]) -> None:
    """Run Python; an expression at its end is printed, as at a prompt."""
    body = ast.parse(code, "<stdin>").body
    tree = ast.parse("")
    tree.body = body[:-1]
    exec(compile(tree, "<stdin>", "exec"), names)  # noqa: S102
    exec(compile(ast.Interactive(body[-1:]), "<stdin>", "single"), names)  # noqa: S102


def show(command: str, names: dict[str, Any]) -> dict[str, str]:
    """Run a command: `%matplot plt` draws the current figure."""
    name, _, argument = command.strip()[1:].partition(" ")
    if name != "matplot":
        raise NotImplementedError(f"%{name}: this Livy knows %matplot only")
    image = io.BytesIO()
    names[argument].gcf().savefig(image, format="png")
    return {"image/png": base64.b64encode(image.getvalue()).decode()}


if __name__ == "__main__":
    main()
