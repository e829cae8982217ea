// From the stored forms of the vectors to the messages that an administrator writes.

import type { Flag } from './generated/halyard/admin/v1/Flag';
import type { FlagConfiguration } from './generated/halyard/admin/v1/FlagConfiguration';
import type { SegmentConfiguration } from './generated/halyard/admin/v1/SegmentConfiguration';
import type { Condition } from './generated/halyard/evaluation/v1/Condition';
import type { Context } from './generated/halyard/evaluation/v1/Context';
import type { Operator } from './generated/halyard/evaluation/v1/Operator';
import type { Serve } from './generated/halyard/evaluation/v1/Serve';
import type { ValueType } from './generated/halyard/evaluation/v1/ValueType';
import type { Variant } from './generated/halyard/evaluation/v1/Variant';
import type { Struct } from './generated/google/protobuf/Struct';
import type { Value } from './generated/google/protobuf/Value';
import type * as forms from './forms';

/** Where a configuration belongs. */
export interface Where {
  project: string;
  environment: string;
}

export function flag(project: string, key: string, form: forms.Definition): Flag {
  return {
    project,
    key,
    type: `VALUE_TYPE_${form.type.toUpperCase()}` as ValueType,
    variants: form.variants.map(variant),
    off_variant: form.off_variant ?? '',
    default_variant: form.default_variant ?? '',
    client_visible: form.client_visible,
  };
}

function variant({ key, value }: forms.Definition['variants'][number]): Variant {
  if (value['object'] !== undefined) return { key, object_value: struct(value['object'] as Record<string, forms.Json>) };
  const [[type, plain] = []] = Object.entries(value);
  return { key, [`${type}_value`]: plain };
}

export function flagConfiguration(where: Where, key: string, form: forms.Configuration): FlagConfiguration {
  return {
    ...where,
    flag: key,
    enabled: form.enabled,
    rules: (form.rules ?? []).map((rule) => ({
      key: rule.key,
      conditions: rule.conditions.map(condition),
      serve: serve(rule.serve),
    })),
    default_serve: form.default ? serve(form.default) : null,
    salt: form.salt ?? '',
    prerequisites: form.prerequisites ?? [],
  };
}

export function segmentConfiguration(where: Where, key: string, form: forms.Segment): SegmentConfiguration {
  return {
    ...where,
    segment: key,
    included: form.included ?? [],
    excluded: form.excluded ?? [],
    segments: form.segments ?? [],
    conditions: (form.conditions ?? []).map(condition),
  };
}

function condition(form: forms.Condition): Condition {
  return {
    attribute: form.attribute ?? '',
    operator: `OPERATOR_${form.operator.toUpperCase()}` as Operator,
    values: (form.values ?? []).map(json),
    negated: form.negated ?? false,
  };
}

function serve(form: forms.Serve): Serve {
  return 'variant' in form ? { variant: form.variant } : { split: form.split };
}

export function context(form: forms.Case['context']): Context {
  return { targeting_key: form.targeting_key ?? '', attributes: struct(form.attributes ?? {}) };
}

function struct(fields: Record<string, forms.Json>): Struct {
  return { fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, json(value)])) };
}

function json(value: forms.Json): Value {
  if (value === null) return { nullValue: 'NULL_VALUE' };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'number') return { numberValue: value };
  if (typeof value === 'string') return { stringValue: value };
  if (Array.isArray(value)) return { listValue: { values: value.map(json) } };
  return { structValue: struct(value) };
}
