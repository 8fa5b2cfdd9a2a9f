"""A CloudFormation stack of one of bootstrap's templates: create, update, follow, delete."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Mapping, Sequence

from emr.aws import Aws, AwsError, Stop, say
from emr.settings import ROOT, Settings

_SOUND = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
#: What EMR answers until IAM has made a new role or profile known everywhere.
_NOT_KNOWN_YET = re.compile(
    r"(?is)authorize instance profile|insufficient EC2 permissions|invalid instance ?profile"
    r"|service ?role.*(invalid|insufficient|assume)"
)
#: Attempts to start the cluster, and pauses between them: ten minutes with EVERY=30.
_ATTEMPTS, _PAUSES = 5, 5


class Failed(Stop):
    """A stack operation that failed, and the first event that did: the others follow from it."""

    def __init__(self, name: str, status: str, event: Mapping[str, Any]) -> None:
        self.reason = str(event.get("ResourceStatusReason") or "CloudFormation gave no reason")
        self.resource = str(event.get("LogicalResourceId") or name)
        cluster = re.search(r"\bj-[0-9A-Z]+", f"{event.get('PhysicalResourceId')} {self.reason}")
        #: The id of the cluster that failed to start, if that is the reason.
        self.cluster = cluster.group() if cluster else ""
        cause = f"because of {self.resource}: {self.reason}"
        super().__init__(f"the stack {name} ended as {status}, {cause}")


class Stack:
    """A template's stack for a bucket, which need not exist."""

    def __init__(self, aws: Aws, settings: Settings, template: str = "cluster") -> None:
        self._aws, self._every = aws, float(settings.EVERY)
        self.template = ROOT / "bootstrap" / f"{template}.yaml"
        kind = "" if template == "cluster" else f"{template}-"
        self.name = f"pomona-{kind}{settings.BUCKET}"
        #: The state, its parameters and outputs, as last read; empty without a stack.
        self.status, self._id = "", ""
        #: Whether an update can start from the state; from all others it needs a new stack.
        self.sound = False
        self.parameters: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        #: What costs money if the command ends now, as a sentence.
        self.costs = "Nothing that costs money was created or started"
        self._seen = 0

    def call(self, verb: str, *words: str, **options: Any) -> Any:
        """Make a call of CloudFormation about the stack."""
        name = self._id or self.name
        return self._aws("cloudformation", verb, "--stack-name", name, *words, **options)

    def read(self, *, quiet: bool = False) -> str:
        """Read the stack's state, and return it."""
        absent = ".*does not exist"
        found = self.call("describe-stacks", query="Stacks[0]", absent=absent, quiet=quiet) or {}
        self.status = found.get("StackStatus", "").replace("DELETE_COMPLETE", "")
        self.sound = self.status in _SOUND
        self._id = found.get("StackId", "")
        self.parameters, self.outputs = (
            {each[f"{kind}Key"]: each[f"{kind}Value"] for each in found.get(f"{kind}s") or []}
            for kind in ("Parameter", "Output")
        )
        return self.status

    def settle(self) -> None:
        """Read the stack, and wait for an operation of someone else that is in progress."""
        # A stack in review stays so until someone executes its change set, and has no resources.
        if self.read().endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS":
            print(f"  The stack {self.name} is {self.status}: waiting until that ends.")
            self.costs = f"The stack {self.name} may have a cluster, which costs money"
            self._seen = len(self._failures())
            self._follow(good=())

    def deploy(self, values: Mapping[str, str], *, keep: bool = False, same: bool = False) -> None:
        """Create or update the stack, by the `same` template or a new one, and wait."""
        pairs = [{"ParameterKey": name, "ParameterValue": values[name]} for name in values]
        words = ["--capabilities", "CAPABILITY_IAM", "--parameters", json.dumps(pairs)]
        words += [] if self.status else ["--tags", "Key=project,Value=pomona"]
        template = ["--template-body", f"file://{self.template}"]
        words += ["--use-previous-template"] if same else template
        words += ["--disable-rollback"] if keep else []
        self._seen = len(self._failures()) if self.status else 0
        verb = "update-stack" if self.status else "create-stack"
        made = self.call(verb, *words, query="StackId", absent=".*No updates are to be performed")
        if made is None:
            say("  It is up to date.")
            return
        self._id = made
        self._follow()

    def deploy_patiently(self, parameters: Mapping[str, str], *, keep: bool) -> None:
        """Deploy, and try again as long as IAM has not made the roles known everywhere."""
        pause = _PAUSES * self._every
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self.deploy(parameters, keep=keep)
                return
            except (AwsError, Failed) as error:
                if parameters["Cluster"] != "yes" or not _NOT_KNOWN_YET.search(str(error)):
                    raise
                refusal = error
            if attempt < _ATTEMPTS:
                say(f"""  EMR does not know the new roles yet, because IAM takes minutes to make
                    them known everywhere. Attempt {attempt + 1} of {_ATTEMPTS} in {pause:g} s""")
                time.sleep(pause)
        raise Stop(f"""{refusal}. IAM makes new roles known everywhere within minutes, and
            {_ATTEMPTS} attempts were not enough: repeat the command later. If it still fails, a
            rule of your organization (SCP) forbids EMR to start nodes""") from refusal

    def delete(self) -> None:
        """Delete the stack and wait; Failed if a resource cannot be deleted."""
        if self.status == "UPDATE_IN_PROGRESS":
            self.call("cancel-update-stack")
        if self.status.startswith("UPDATE"):
            self.settle()
        self._seen = len(self._failures())
        self.call("delete-stack")
        self._follow()
        self._id = ""

    def _follow(self, good: Sequence[str] = ("", "CREATE_COMPLETE", "UPDATE_COMPLETE")) -> None:
        """Poll until the operation ends; print each state, and each event that fails."""
        failures: list[dict[str, Any]] = []
        last = ""
        while not last or last.endswith("_IN_PROGRESS"):
            time.sleep(self._every if last else 0)
            status = self.read(quiet=True) or "DELETE_COMPLETE"
            for event in self._failures()[self._seen + len(failures) :]:
                failures.append(event)
                reason = event.get("ResourceStatusReason") or "no reason given"
                say(f"  {event['ResourceStatus']}: {event['LogicalResourceId']}: {reason}")
            if status != last:
                say(f"  {time.strftime('%H:%M:%S')} {status}")
            last = status
        if good and self.status not in good:
            raise Failed(self.name, last, failures[0] if failures else {})

    def _failures(self) -> list[dict[str, Any]]:
        """Return all events of the stack that failed, the oldest first."""
        query = "reverse(StackEvents[?ends_with(ResourceStatus, '_FAILED')])"
        return list(self.call("describe-stack-events", query=query, quiet=True) or [])
