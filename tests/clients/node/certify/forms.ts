// The shapes of the vectors: cases, and the stored forms that they hold. `tests/vectors/README.md` says what they mean.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface Case {
  name: string;
  flag: string;
  definition: Definition | null;
  configuration: Configuration | null;
  flags?: Record<string, Flag>;
  segments?: Record<string, Segment | null>;
  key_lists?: Record<string, string[]>;
  stored_only?: boolean;
  context: { targeting_key?: string; attributes?: Record<string, Json> };
  expected: Answer | null;
}

export interface Answer {
  variant: string | null;
  reason: string;
  rule?: string;
  error?: string;
}

export interface Flag {
  definition: Definition | null;
  configuration: Configuration | null;
}

export interface Definition {
  type: string;
  variants: { key: string; value: Record<string, Json> }[];
  off_variant?: string;
  default_variant?: string;
  client_visible: boolean;
}

export interface Configuration {
  enabled: boolean;
  prerequisites?: { flag: string; variants: string[] }[];
  rules?: { key: string; conditions: Condition[]; serve: Serve }[];
  default?: Serve;
  salt?: string;
}

export interface Condition {
  attribute?: string;
  operator: string;
  values?: (boolean | number | string)[];
  negated?: boolean;
}

export type Serve =
  | { variant: string }
  | { split: { variants: { variant: string; weight: number }[]; attribute?: string } };

export interface Segment {
  included?: string[];
  excluded?: string[];
  segments?: string[];
  conditions?: Condition[];
}
