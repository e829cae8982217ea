"""From the stored forms of the vectors to the messages that an administrator writes."""

from halyard.admin.v1.flag_service_pb2 import Flag, FlagConfiguration
from halyard.admin.v1.segment_service_pb2 import SegmentConfiguration
from halyard.evaluation.v1 import flag_pb2 as pb
from halyard.evaluation.v1.evaluation_pb2 import Context


def flag(project, key, form):
    return Flag(
        project=project,
        key=key,
        type=pb.ValueType.Value(f"VALUE_TYPE_{form['type'].upper()}"),
        variants=[variant(each) for each in form["variants"]],
        off_variant=form.get("off_variant", ""),
        default_variant=form.get("default_variant", ""),
        client_visible=form["client_visible"],
    )


def variant(form):
    ((kind, value),) = form["value"].items()
    message = pb.Variant(key=form["key"])
    if kind == "object":
        message.object_value.update(value)
        message.object_value.SetInParent()
    else:
        setattr(message, f"{kind}_value", value)
    return message


def flag_configuration(project, environment, key, form):
    message = FlagConfiguration(
        project=project,
        environment=environment,
        flag=key,
        enabled=form["enabled"],
        rules=[rule(each) for each in form.get("rules", [])],
        salt=form.get("salt", ""),
        prerequisites=[pb.Prerequisite(**each) for each in form.get("prerequisites", [])],
    )
    if "default" in form:
        message.default_serve.CopyFrom(serve(form["default"]))
    return message


def rule(form):
    conditions = [condition(each) for each in form["conditions"]]
    return pb.Rule(key=form["key"], conditions=conditions, serve=serve(form["serve"]))


def condition(form):
    message = pb.Condition(
        attribute=form.get("attribute", ""),
        operator=pb.Operator.Value(f"OPERATOR_{form['operator'].upper()}"),
        negated=form.get("negated", False),
    )
    for value in form.get("values", []):
        kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
        setattr(message.values.add(), f"{kind}_value", value)
    return message


def serve(form):
    if "variant" in form:
        return pb.Serve(variant=form["variant"])
    shares = [pb.WeightedVariant(**share) for share in form["split"]["variants"]]
    return pb.Serve(split=pb.Split(variants=shares, attribute=form["split"].get("attribute", "")))


def segment_configuration(project, environment, key, form):
    return SegmentConfiguration(
        project=project,
        environment=environment,
        segment=key,
        included=form.get("included", []),
        excluded=form.get("excluded", []),
        segments=form.get("segments", []),
        conditions=[condition(each) for each in form.get("conditions", [])],
    )


def context(form):
    message = Context(targeting_key=form.get("targeting_key", ""))
    message.attributes.update(form.get("attributes", {}))
    return message
