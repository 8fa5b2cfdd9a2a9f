"""The CloudFormation stack of bootstrap/cluster.yaml: create, update, follow, delete."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, Mapping

from emr.aws import Aws, AwsError, Stop
from emr.settings import ROOT, Settings

TEMPLATE = ROOT / "bootstrap" / "cluster.yaml"

#: States that an update can start from; all others need a new stack.
_SOUND = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
#: What EMR answers until IAM has made a new role or profile known everywhere.
_NOT_KNOWN_YET = re.compile(
    r"authorize instance profile|insufficient EC2 permissions|invalid instance ?profile"
    r"|service ?role.*(invalid|insufficient|assume)",
    re.I | re.S,
)
#: Attempts to start the cluster, and pauses between them: ten minutes with EVERY=30.
_ATTEMPTS, _PAUSES = 5, 5


class Failed(Stop):
    """A stack operation that failed, and the resource that it failed for."""

    def __init__(self, name: str, status: str, event: Mapping[str, Any]) -> None:
        #: The first failure is the reason; CloudFormation then cancels the rest.
        self.reason = str(event.get("ResourceStatusReason") or "CloudFormation gave no reason")
        self.resource = str(event.get("LogicalResourceId") or name)
        cluster = re.search(
            r"\bj-[0-9A-Z]+", f"{event.get('PhysicalResourceId') or ''} {self.reason}"
        )
        #: The id of the cluster that failed to start, if that is the reason.
        self.cluster = cluster.group() if cluster else ""
        super().__init__(
            f"the stack {name} ended as {status}, because of {self.resource}: {self.reason}"
        )


class Stack:
    """A stack by its name, which need not exist."""

    def __init__(
        self, aws: Aws, settings: Settings, name: str = "", template: Path = TEMPLATE
    ) -> None:
        self._aws, self._every = aws, float(settings.EVERY)
        self._template = template
        self.name = name or f"pomona-{settings.BUCKET}"
        #: The state, its parameters and outputs, as last read; empty without a stack.
        self.status = ""
        self.parameters: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        #: What costs money if the command ends now, as a sentence.
        self.costs = "Nothing that costs money was created or started"
        self._id = ""
        self._seen: set[str] = set()

    def read(self, *, quiet: bool = False) -> str:
        """Read the stack's state, and return it."""
        words = ("describe-stacks", "--stack-name", self._id or self.name)
        try:
            found = self._aws("cloudformation", *words, query="Stacks[0]", quiet=quiet)
        except AwsError as error:
            if "does not exist" not in error.message:
                raise
            found = {"StackStatus": ""}
        self.status = found["StackStatus"].replace("DELETE_COMPLETE", "")
        self._id = found.get("StackId", "")
        self.parameters = {
            each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters") or []
        }
        self.outputs = {
            each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs") or []
        }
        return self.status

    @property
    def sound(self) -> bool:
        """Whether the stack can be updated."""
        return self.status in _SOUND

    def settle(self) -> None:
        """Read the stack, and wait for an operation of someone else that is in progress."""
        # A stack in review stays so until someone executes its change set, and has no resources.
        if self.read().endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS":
            print(f"  The stack {self.name} is {self.status}: waiting until that ends.")
            self.costs = f"The stack {self.name} may have a cluster, which costs money"
            self._seen = set(self._events())
            self._follow()

    def deploy(self, parameters: Mapping[str, str], *, keep: bool = False) -> None:
        """Create or update the stack, and wait; Failed if it fails.

        Parameters
        ----------
        parameters
            Values of the template's parameters.
        keep
            Leave a stack that fails as it is, instead of rolling it back.
        """
        words = ["update-stack"] if self.status else ["create-stack", "--tags"]
        words += [] if self.status else ["Key=project,Value=pomona"]
        words += ["--template-body", f"file://{self._template}"]
        self._start([*words, *(["--disable-rollback"] if keep else [])], parameters)

    def deploy_patiently(self, parameters: Mapping[str, str], *, keep: bool) -> None:
        """Deploy, and try again as long as IAM has not made the roles known everywhere."""
        pause = _PAUSES * self._every
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self.deploy(parameters, keep=keep)
                break
            except (AwsError, Failed) as error:
                starts = parameters["Cluster"] == "yes"
                if not starts or not _NOT_KNOWN_YET.search(str(error)):
                    raise
                if attempt == _ATTEMPTS:
                    raise Stop(
                        f"{error}. IAM makes new roles known everywhere within minutes, and "
                        f"{attempt} attempts were not enough: repeat the command later. If it "
                        "still fails, a rule of your organization (SCP) forbids EMR to start nodes"
                    ) from error
            print(
                "  EMR does not know the new roles yet, because IAM takes minutes to make them "
                f"known everywhere. Attempt {attempt + 1} of {_ATTEMPTS} in {pause:g} s",
                flush=True,
            )
            time.sleep(pause)

    def change(self, parameters: Mapping[str, str]) -> None:
        """Change only these parameters of the stack as it is, and wait."""
        self._start(["update-stack", "--use-previous-template"], {**self.parameters, **parameters})

    def delete(self) -> None:
        """Delete the stack and wait; Failed if a resource cannot be deleted."""
        if self.status == "UPDATE_IN_PROGRESS":
            self._aws.raw("cloudformation", "cancel-update-stack", "--stack-name", self.name)
        if self.status.startswith("UPDATE"):
            self.settle()
        self._seen = set(self._events())
        self._aws.raw("cloudformation", "delete-stack", "--stack-name", self._id)
        self._wait()

    def resources(self, kind: str) -> list[str]:
        """Return the physical ids of the stack's resources of a type."""
        words = ("describe-stack-resources", "--stack-name", self._id)
        query = f"StackResources[?ResourceType=='{kind}'].PhysicalResourceId"
        return list(self._aws("cloudformation", *words, query=query))

    def _start(self, words: list[str], parameters: Mapping[str, str]) -> None:
        values = [
            {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
        ]
        words += ["--stack-name", self.name, "--capabilities", "CAPABILITY_IAM"]
        self._seen = set(self._events()) if self.status else set()
        try:
            full = ("cloudformation", *words, "--parameters", json.dumps(values))
            self._id = self._aws(*full, query="StackId")
        except AwsError as error:
            if "No updates are to be performed" not in error.message:
                raise
            print("  It is up to date.")
            return
        self._wait()

    def _wait(self) -> None:
        failures = self._follow()
        if self.status not in ("", "CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise Failed(self.name, self.status, failures[0] if failures else {})

    def _follow(self) -> list[dict[str, Any]]:
        """Poll until the operation ends; print each state and each event that fails."""
        failures: list[dict[str, Any]] = []
        last = "?"
        while last == "?" or last.endswith("_IN_PROGRESS"):
            if last != "?":
                time.sleep(self._every)
            status = self.read(quiet=True)
            for key, event in self._events().items():
                if key not in self._seen and event["ResourceStatus"].endswith("_FAILED"):
                    failures.append(event)
                    print(
                        f"  {event['ResourceStatus']}: {event['LogicalResourceId']}: "
                        f"{event.get('ResourceStatusReason') or 'no reason given'}",
                        flush=True,
                    )
                self._seen.add(key)
            if status != last:
                print(f"  {time.strftime('%H:%M:%S')} {status or 'DELETE_COMPLETE'}", flush=True)
            last = status
        return failures

    def _events(self) -> dict[str, dict[str, Any]]:
        """Return the stack's events by their ids, the oldest first."""
        words = ("cloudformation", "describe-stack-events", "--stack-name", self._id)
        events = self._aws(*words, query="StackEvents", quiet=True) or []
        return {event["EventId"]: event for event in reversed(events)}
