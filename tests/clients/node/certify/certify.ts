// Certifies a running server: writes what the vectors describe through the admin API, and compares every answer.
//
// Asks for HALYARD_ENDPOINT, HALYARD_EMAIL and HALYARD_PASSWORD, as `halyard dev` writes them into dev.env. Makes a project for
// every place of the vectors. Ends with 1 and every answer that differs.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import { Administrator } from './administrator';
import { call, load, present } from './contract';
import type { Answer, Case } from './forms';
import type { EvaluationServiceClient } from './generated/halyard/evaluation/v1/EvaluationService';
import * as messages from './messages';
import { read, type Place } from './places';

// Places that are written at the same time.
const WORKERS = 8;
// Fewer would mean that the vectors were not found.
const LEAST_CASES = 2_000;

/** What the server answers, in the form of the case's `expected`. */
async function ask(
  client: EvaluationServiceClient,
  one: Case,
  serverKey: grpc.Metadata,
  revision: bigint,
): Promise<Answer | null> {
  const request = { flag: one.flag, context: messages.context(one.context), min_revision: `${revision}` };
  try {
    const { evaluation } = await call(client, client.Evaluate, request, serverKey);
    const { value, variant, reason, rule, error } = present(evaluation, 'the evaluation');
    assert.equal(value !== undefined, variant !== '', 'a value comes with a variant');
    return {
      variant: variant || null,
      reason: reason.replace('REASON_', ''),
      ...(rule && { rule }),
      ...(error !== 'EVALUATION_ERROR_UNSPECIFIED' && { error: error.replace('EVALUATION_ERROR_', '') }),
    };
  } catch (error) {
    if ((error as Partial<grpc.ServiceError>).code === grpc.status.NOT_FOUND) return null;
    throw error;
  }
}

/** The sentences about answers that differ. */
async function certify(
  administrator: Administrator,
  client: EvaluationServiceClient,
  place: Place,
  project: string,
): Promise<string[]> {
  const wrong: string[] = [];
  const prepared = await administrator.prepare(place, project);
  let { revision } = prepared;
  for (const state of place.states) {
    const written = await administrator.bringTo(state, project);
    if (written > revision) revision = written;
    for (const one of state.cases) {
      const answer = await ask(client, one, prepared.serverKey, revision);
      if (!isDeepStrictEqual(answer, one.expected)) {
        wrong.push(`${one.name}: expected ${JSON.stringify(one.expected)}, answered ${JSON.stringify(answer)}`);
      }
    }
  }
  return wrong;
}

/** The same, a refusal being such a sentence. */
async function certified(...[administrator, client, place, project]: Parameters<typeof certify>): Promise<string[]> {
  try {
    return await certify(administrator, client, place, project);
  } catch (error) {
    const names = place.states.flatMap((state) => state.cases).map(({ name }) => name);
    return [`among ${names.join(', ')}: ${String(error)}`];
  }
}

async function main(): Promise<void> {
  const { HALYARD_ENDPOINT = '', HALYARD_EMAIL = '', HALYARD_PASSWORD = '' } = process.env;
  const target = new URL(HALYARD_ENDPOINT).host;
  const credentials = grpc.credentials.createInsecure();
  const channel = new grpc.Channel(target, credentials, {});
  const shared = { channelOverride: channel };
  const { admin, evaluation } = load();
  const client = new evaluation.v1.EvaluationService(target, credentials, shared);
  const administrator = new Administrator(
    new admin.v1.AuthService(target, credentials, shared),
    new admin.v1.ProjectService(target, credentials, shared),
    new admin.v1.EnvironmentService(target, credentials, shared),
    new admin.v1.FlagService(target, credentials, shared),
    new admin.v1.SegmentService(target, credentials, shared),
  );
  await administrator.login(HALYARD_EMAIL, HALYARD_PASSWORD);

  const { places, leftOut } = read();
  const run = randomUUID().slice(0, 8);
  const left = places.entries();
  const wrong: string[] = [];
  const work = async (): Promise<void> => {
    for (const [number, place] of left) {
      wrong.push(...(await certified(administrator, client, place, `node-${run}-${number}`)));
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, work));
  channel.close();

  const asked = places.flatMap((place) => place.states).reduce((sum, state) => sum + state.cases.length, 0);
  if (wrong.length > 0) throw new Error(`${wrong.length} differ:\n${wrong.join('\n')}`);
  assert.ok(asked >= LEAST_CASES, `only ${asked} cases were asked`);
  console.log(`${asked} answers in ${places.length} projects are those of the vectors; ${leftOut} cases only stored rows can be like`);
}

main().catch((error: unknown) => {
  console.error(`certify.ts: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
});
