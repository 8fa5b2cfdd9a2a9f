"""Moto's server with stacks that fail, roll back, update and delete as CloudFormation's do.

Usage, in the environment of tests/requirements/aws.txt, with the options of `moto_server`:

    MOTO_FOLDER=folder python moto_server.py -H 127.0.0.1 -p 5000

The folder has two files:

- `faults.json`, which a test writes: a list of `{"resource": "EmrCluster", "action": "CREATE",
  "reason": "…", "times": 2}`. Each time the resource is to be created, updated or deleted, the
  action fails with this reason instead, until `times` is used up.
- `resources.json`, which the server writes: the resolved properties of every resource, by stack and
  logical id.

Plain moto creates clusters that end at once, ignores parameters' constraints, conditions that
change and DisableRollback, keeps rules that are replaced, and never rolls back. It does not know
some types, such as budgets and bucket policies; here they exist, without any effect.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.responses import CloudFormationResponse
from moto.ec2.models import ec2_backends
from moto.emr.models import Cluster, ElasticMapReduceBackend
from moto.server import main

FOLDER = Path(os.environ["MOTO_FOLDER"])
RULE = "AWS::EC2::SecurityGroupIngress"
ROLE = "AWS::IAM::Role"
#: Types that an update replaces by new resources; the others change in place.
REPLACED = (RULE, "AWS::EC2::SecurityGroup", "AWS::EMR::Cluster", "AWS::IAM::InstanceProfile")


class ResourceError(Exception):
    """A resource that could not be created, updated or deleted."""


class Made:
    """A resource of a stack: its template with all values resolved, and moto's object."""

    def __init__(self, template: dict[str, Any], resource: Any) -> None:
        self.template = template
        self.resource = resource


class Resources(parsing.ResourceMap):
    """The values that templates can refer to. Moto's creates resources when it is read."""

    def __getitem__(self, name: str) -> Any:
        return self._parsed_resources.get(name)


class Stack(models.Stack):
    """A stack whose changes are all or nothing."""

    # Moto takes the service from the name of the module.
    __module__ = models.__name__
    #: Whether the request that is being answered has DisableRollback.
    keeps_failures = False

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.made: dict[str, Made] = {}
        self._check_parameters()

    @staticmethod
    def parse_template(template: str) -> dict[str, Any]:
        return copy.deepcopy(parsed(template))

    def create_resources(self) -> None:
        try:
            self._bring_all()
        except ResourceError as error:
            if self.keeps_failures:
                self._say("CREATE_FAILED", reason=str(error))
                return
            self._say("ROLLBACK_IN_PROGRESS", reason=f"{error} Rollback requested by user.")
            self._remove(list(self.made))
            self._say("ROLLBACK_COMPLETE")
        else:
            self._say("CREATE_COMPLETE")

    def update(
        self,
        template: str,
        role_arn: str | None = None,
        parameters: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        before, kept = (self.template, self.parameters), dict(self.made)
        try:
            self._load(template, parameters or self.parameters)
            self._check_parameters()
        except Exception:
            self._load(*before)
            raise
        self._say("UPDATE_IN_PROGRESS", reason="User Initiated")
        try:
            self._bring_all()
        except ResourceError as error:
            if self.keeps_failures:
                self._say("UPDATE_FAILED", reason=str(error))
                return
            self._say("UPDATE_ROLLBACK_IN_PROGRESS", reason=str(error))
            self._remove([name for name in self.made if self.made[name] is not kept.get(name)])
            self._load(*before)
            self.made = {**kept, **self.made}
            self._bring_all()
            self._say("UPDATE_ROLLBACK_COMPLETE")
            return
        self._say("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        wanted = set(self._order())
        for name in reversed(kept):
            if name not in wanted:
                self._remove([name])
            elif self.made[name].resource is not kept[name].resource:
                self._delete(kept[name])
        self._say("UPDATE_COMPLETE")

    def delete(self) -> None:
        self._say("DELETE_IN_PROGRESS", reason="User Initiated")
        try:
            self._remove(list(self.made))
        except ResourceError as error:
            self._say("DELETE_FAILED", reason=str(error))
        else:
            self._say("DELETE_COMPLETE")

    @property
    def outputs(self) -> list[dict[str, Any]] | None:
        return super().outputs if self.made else None

    @property
    def stack_resources(self) -> list[Any]:
        return [made.resource for made in self.made.values()]

    def _load(self, template: Any, parameters: dict[str, Any]) -> None:
        self.template, self.parameters = template, parameters
        self._parse_template()
        self.resource_map = self._create_resource_map()
        self._share()
        self.output_map = self._create_output_map()

    def _share(self) -> None:
        """Make the resources known to references in the template."""
        for name, made in self.made.items():
            self.resource_map._parsed_resources[name] = made.resource

    def _check_parameters(self) -> None:
        for name, value in self.resource_map.resolved_parameters.items():
            rule = self.template_dict["Parameters"][name]
            text = str(value)
            allowed = [str(one) for one in rule.get("AllowedValues", [text])]
            bounds = rule.get("MinValue", value), rule.get("MaxValue", value)
            lengths = rule.get("MinLength", 0), rule.get("MaxLength", len(text))
            if (
                text not in allowed
                or not re.fullmatch(rule.get("AllowedPattern", ".*"), text)
                or not lengths[0] <= len(text) <= lengths[1]
                or (rule["Type"] == "Number" and not bounds[0] <= value <= bounds[1])
            ):
                said = rule.get("ConstraintDescription", f"must not be {text}")
                raise ValidationError(
                    self.name, f"Parameter {name} failed to satisfy constraint: {said}"
                )

    def _order(self) -> list[str]:
        """The resources whose condition is true, each after those that it depends on."""
        resources = self.template_dict["Resources"]
        ordered: dict[str, None] = {}

        def add(name: str) -> None:
            resource = resources[name]
            condition = resource.get("Condition")
            if name in ordered or (
                condition and not self.resource_map.lazy_condition_map[condition]
            ):
                return
            for other in references(resource):
                if other in resources and other != name:
                    add(other)
            ordered[name] = None

        for name in resources:
            add(name)
        return list(ordered)

    def _bring_all(self) -> None:
        """Create and update what is missing or different."""
        for name in self._order():
            self._bring(name)
        record()

    def _bring(self, name: str) -> None:
        wanted = parsing.clean_json(self.template_dict["Resources"][name], self.resource_map)
        old = self.made.get(name)
        if old is not None and old.template == wanted:
            return
        verb = "CREATE" if old is None else "UPDATE"
        self._say(f"{verb}_IN_PROGRESS", name, wanted["Type"])
        try:
            take_fault(name, verb)
            if old is not None and wanted["Type"] not in REPLACED:
                resource = self._change(old.resource, wanted)
            else:
                resource = self._create(name, copy.deepcopy(wanted))
        except Exception as error:
            reason = getattr(error, "message", None) or str(error)
            self._say(f"{verb}_FAILED", name, wanted["Type"], reason=reason)
            raise ResourceError(
                f"The following resource(s) failed to {verb.lower()}: [{name}]."
            ) from error
        self.made[name] = Made(wanted, resource)
        self._share()
        self._say(f"{verb}_COMPLETE", name, wanted["Type"])

    def _create(self, name: str, wanted: dict[str, Any]) -> Any:
        kind = wanted["Type"]
        own = f"{self.name}-{name}-{parsing.random_suffix()}"
        model = parsing.get_model_map().get(kind)
        if model is None:
            resource = SimpleNamespace()
        else:
            name_property = model.cloudformation_name_type()
            resource = model.create_from_cloudformation_json(
                wanted["Properties"].get(name_property, own),
                wanted,
                self.account_id,
                self.region_name,
                LogicalId=name,
                StackId=self.stack_id,
                ResourceType=kind,
            )
        if kind == ROLE:
            self._change(resource, wanted)
        if not getattr(resource, "physical_resource_id", None):
            resource.physical_resource_id = own
        resource.logical_resource_id, resource.cf_resource_type = name, kind
        return resource

    def _change(self, resource: Any, wanted: dict[str, Any]) -> Any:
        """Change a resource in place. Only roles have anything that the tests change."""
        if wanted["Type"] == ROLE:
            properties = wanted["Properties"]
            resource.policies.clear()
            for policy in properties.get("Policies", []):
                resource.put_policy(policy["PolicyName"], json.dumps(policy["PolicyDocument"]))
            self._attach(resource, properties.get("ManagedPolicyArns", []))
        return resource

    def _attach(self, role: Any, policies: list[str]) -> None:
        """Give a role these managed policies and no others."""
        iam = parsing.iam_models.iam_backends[self.account_id]["aws"]
        for arn in set(role.managed_policies) - set(policies):
            iam.detach_role_policy(arn, role.name)
        for arn in set(policies) - set(role.managed_policies):
            iam.attach_role_policy(arn, role.name)

    def _remove(self, names: list[str]) -> None:
        for name in reversed(names):
            made = self.made[name]
            kind = made.template["Type"]
            if made.template.get("DeletionPolicy") == "Retain":
                self._say("DELETE_SKIPPED", name, kind)
            else:
                self._say("DELETE_IN_PROGRESS", name, kind)
                try:
                    take_fault(name, "DELETE")
                    self._delete(made)
                except Exception as error:
                    reason = getattr(error, "message", None) or str(error)
                    self._say("DELETE_FAILED", name, kind, reason=reason)
                    raise ResourceError(
                        f"The following resource(s) failed to delete: [{name}]. "
                    ) from error
                self._say("DELETE_COMPLETE", name, kind)
            del self.made[name]
        record()

    def _delete(self, made: Made) -> None:
        properties = made.template.get("Properties", {})
        if made.template["Type"] == ROLE:
            self._attach(made.resource, [])
        if made.template["Type"] == RULE:
            source = properties.get("SourceSecurityGroupId")
            address = properties.get("CidrIp")
            ec2_backends[self.account_id][self.region_name].revoke_security_group_ingress(
                group_name_or_id=properties["GroupId"],
                ip_protocol=properties["IpProtocol"],
                from_port=properties["FromPort"],
                to_port=properties["ToPort"],
                ip_ranges=[{"CidrIp": address}] if address else [],
                source_groups=[{"GroupId": source}] if source else [],
            )
        elif not isinstance(made.resource, SimpleNamespace):
            self.resource_map._delete_resource(made.resource, made.template)

    def _say(self, status: str, name: str = "", kind: str = "", reason: str | None = None) -> None:
        """Record an event of a resource, or of the stack itself."""
        made = self.made.get(name)
        self.events.append(
            models.Event(
                stack_id=self.stack_id,
                stack_name=self.name,
                logical_resource_id=name or self.name,
                physical_resource_id=(
                    (made.resource.physical_resource_id if made else "") if name else self.stack_id
                ),
                resource_type=kind or "AWS::CloudFormation::Stack",
                resource_status=status,
                resource_status_reason=reason,
                resource_properties=None,
            )
        )
        if not name:
            self.status = status
            self.stack_status_reason = reason


#: Parsing takes half a second, and moto does it several times for each request.
parsed = functools.lru_cache(models.Stack.parse_template)


def references(value: Any) -> Iterator[str]:
    """The logical ids that a resource's template refers to."""
    if isinstance(value, list):
        for one in value:
            yield from references(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == "Ref":
                yield one
            elif key == "Fn::GetAtt":
                yield one[0]
            elif key == "Fn::Sub":
                yield from re.findall(r"\$\{(\w+)", one if isinstance(one, str) else one[0])
            elif key == "DependsOn":
                yield from [one] if isinstance(one, str) else one
            else:
                yield from references(one)


def take_fault(name: str, action: str) -> None:
    """Raise the reason that a test prepared for an action on a resource."""
    path = FOLDER / "faults.json"
    faults = json.loads(path.read_text()) if path.exists() else []
    for fault in faults:
        if fault["resource"] == name and fault["action"] == action and fault["times"] > 0:
            fault["times"] -= 1
            path.write_text(json.dumps(faults))
            raise ResourceError(fault["reason"])


def record() -> None:
    """Write the properties of all resources."""
    stacks = [
        stack
        for account in models.cloudformation_backends.values()
        for backend in account.values()
        for stack in backend.stacks.values()
    ]
    resources = {
        stack.name: {name: made.template.get("Properties", {}) for name, made in stack.made.items()}
        for stack in stacks
    }
    (FOLDER / "resources.json").write_text(json.dumps(resources, indent=1))


def without_nothing(clean_json: Any) -> Any:
    """Leave out AWS::NoValue from lists, which moto does only in objects."""

    def cleaned(value: Any, resources: Resources) -> Any:
        clean = clean_json(value, resources)
        return [one for one in clean if one is not None] if isinstance(clean, list) else clean

    return cleaned


def keep_alive(create: Any) -> Any:
    """Give moto's cluster the properties without which it ends at once."""

    def created(cls: type[Cluster], name: str, template: Any, *words: Any, **named: Any) -> Cluster:
        instances = template["Properties"]["Instances"]
        instances["keep_job_flow_alive_when_no_steps"] = instances["KeepJobFlowAliveWhenNoSteps"]
        instances["ec2_key_name"] = instances.get("Ec2KeyName")
        return create(cls, name, template, *words, **named)

    return classmethod(created)


def keep_undeleted(delete_stack: Any) -> Any:
    """Keep stacks that could not be deleted."""

    def deleted(self: models.CloudFormationBackend, name: str) -> None:
        stacks = dict(self.stacks)
        delete_stack(self, name)
        for key, stack in stacks.items():
            if stack.status == "DELETE_FAILED":
                self.stacks[key] = stack
                self.deleted_stacks.pop(key, None)
        record()

    return deleted


def with_rollback_option(answer: Any) -> Any:
    """Read an option that moto ignores."""

    def answered(self: CloudFormationResponse) -> Any:
        Stack.keeps_failures = self._get_bool_param("DisableRollback", False)
        return answer(self)

    return answered


def given_groups(_: Any, **instances: Any) -> tuple[Any, ...]:
    """Return the groups of a request. Moto would add one for private subnets to every cluster."""
    return tuple(
        instances[f"{name}_security_group"]
        for name in ("emr_managed_master", "emr_managed_slave", "service_access")
    )


if __name__ == "__main__":
    Cluster.create_from_cloudformation_json = keep_alive(
        Cluster.create_from_cloudformation_json.__func__
    )
    ElasticMapReduceBackend._manage_security_groups = given_groups
    for action in ("create_stack", "update_stack"):
        answer = with_rollback_option(getattr(CloudFormationResponse, action))
        setattr(CloudFormationResponse, action, answer)
    backend = models.CloudFormationBackend
    backend.delete_stack = keep_undeleted(backend.delete_stack)
    parsing.clean_json = without_nothing(parsing.clean_json)
    models.Stack, models.ResourceMap = Stack, Resources
    main()
