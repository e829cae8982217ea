// The vectors' cases that can be written through the API, sorted into worlds: what one environment holds.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT } from './contract';
import type { Case, Flag, Segment } from './forms';

const FILES = ['matching', 'operators', 'prerequisites', 'segments', 'splits'];

/** What the cases have in common. */
export interface World {
  flags: Record<string, Flag>;
  segments: Record<string, Segment | null>;
  keyLists: Record<string, string[]>;
  cases: Case[];
}

/** The worlds, and how many cases there are beside them that only a row edited by hand can be like. */
export function read(): { worlds: World[]; leftOut: number } {
  const all = FILES.flatMap(cases);
  const written = all.filter((one) => !one.stored_only);
  const worlds = new Map<string, World>();
  for (const one of written) {
    const fresh = worldOf(one);
    const held = JSON.stringify(fresh);
    const world = worlds.get(held) ?? fresh;
    world.cases.push(one);
    worlds.set(held, world);
  }
  return { worlds: [...worlds.values()], leftOut: all.length - written.length };
}

function cases(file: string): Case[] {
  return JSON.parse(readFileSync(path.join(ROOT, 'tests/vectors', `${file}.json`), 'utf8')) as Case[];
}

function worldOf(one: Case): World {
  const flags = { ...one.flags };
  const { definition, configuration } = one;
  if (definition) flags[one.flag] = { definition, configuration };
  return { flags, segments: one.segments ?? {}, keyLists: one.key_lists ?? {}, cases: [] };
}
