// The vectors' cases that can be written through the API, sorted into places and the states that these have one after another.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT, present } from './contract';
import type { Case, Configuration, Definition, Segment } from './forms';

const FILES = ['matching', 'operators', 'prerequisites', 'segments', 'splits'];
// More would take one worker longer than all others need.
const STATES = 40;

/** The flags' configurations of cases that have them in common. */
export interface State {
  configurations: Record<string, Configuration | null>;
  cases: Case[];
}

/** What an environment holds besides. */
interface Held {
  definitions: Record<string, Definition>;
  segments: Record<string, Segment | null>;
  keyLists: Record<string, string[]>;
}

/** What an environment holds, and the states to bring it to. */
export interface Place extends Held {
  states: State[];
}

/** The places, and how many cases there are beside them that only a row edited by hand can be like. */
export function read(): { places: Place[]; leftOut: number } {
  const all = FILES.flatMap(cases);
  const written = all.filter((one) => !one.stored_only);
  const states = new Map<string, [Held, State]>();
  for (const one of written) {
    const [held, configurations] = parts(one);
    const key = JSON.stringify([held, configurations]);
    const [, state] = states.get(key) ?? [held, { configurations, cases: [] }];
    state.cases.push(one);
    states.set(key, [held, state]);
  }
  return { places: gather(states.values()), leftOut: all.length - written.length };
}

function cases(file: string): Case[] {
  return JSON.parse(readFileSync(path.join(ROOT, 'tests/vectors', `${file}.json`), 'utf8')) as Case[];
}

function parts(one: Case): [Held, State['configurations']] {
  const { definition, configuration } = one;
  const flags = Object.entries({ ...one.flags, ...(definition && { [one.flag]: { definition, configuration } }) });
  const definitions = flags.map(([key, flag]) => [key, present(flag.definition, `the definition of ${key}`)]);
  return [
    { definitions: Object.fromEntries(definitions), segments: one.segments ?? {}, keyLists: one.key_lists ?? {} },
    Object.fromEntries(flags.map(([key, flag]) => [key, flag.configuration])),
  ];
}

/** Puts states into one place if one can follow another there: of a single flag that is configured in both. */
function gather(states: Iterable<[Held, State]>): Place[] {
  const places: Place[] = [];
  const open = new Map<string, Place>();
  for (const [held, state] of states) {
    const [first, ...others] = Object.values(state.configurations);
    const follows = first && others.length === 0;
    const key = JSON.stringify(held);
    let place = follows ? open.get(key) : undefined;
    if (!place || place.states.length === STATES) {
      place = { ...held, states: [] };
      places.push(place);
      if (follows) open.set(key, place);
    }
    place.states.push(state);
  }
  return places;
}
