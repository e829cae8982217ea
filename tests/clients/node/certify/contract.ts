// The services as a TypeScript program calls them, with types made from `proto/`.

import { readdirSync } from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import * as protoLoader from '@grpc/proto-loader';
import type { ProtoGrpcType as AuthTypes } from './generated/auth_service';
import type { ProtoGrpcType as EnvironmentTypes } from './generated/environment_service';
import type { ProtoGrpcType as EvaluationTypes } from './generated/evaluation_service';
import type { ProtoGrpcType as FlagTypes } from './generated/flag_service';
import type { ProtoGrpcType as ProjectTypes } from './generated/project_service';
import type { ProtoGrpcType as SegmentTypes } from './generated/segment_service';

// Compiled, this file lies in target/clients/node/built.
export const ROOT = path.resolve(__dirname, '../../../..');
const DEADLINE_MS = 20_000;

type Loaded = AuthTypes & EnvironmentTypes & EvaluationTypes & FlagTypes & ProjectTypes & SegmentTypes;

/** The packages, with field names as in proto/, 64-bit numbers and enums as strings. */
export function load(): Loaded['halyard'] {
  const proto = path.join(ROOT, 'proto');
  const admin = readdirSync(path.join(proto, 'halyard/admin/v1')).filter((file) => file.endsWith('.proto'));
  const definition = protoLoader.loadSync(
    [...admin.map((file) => `halyard/admin/v1/${file}`), 'halyard/evaluation/v1/evaluation_service.proto'],
    { includeDirs: [proto], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
  );
  return (grpc.loadPackageDefinition(definition) as unknown as Loaded).halyard;
}

export function bearer(credential: string): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${credential}`);
  return metadata;
}

// The shapes of a generated client's method that are used here: TypeScript infers from the last, the call needs the first.
type Full<Request, Response> = (
  request: Request,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  callback: grpc.requestCallback<Response>,
) => grpc.ClientUnaryCall;
type Method<Request, Response> = (request: Request, callback: grpc.requestCallback<Response>) => grpc.ClientUnaryCall;

/** Calls a method, with promises instead of callbacks. */
export function call<Request, Response>(
  client: object,
  method: Method<Request, Response> & Full<Request, Response>,
  request: Request,
  metadata = new grpc.Metadata(),
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const full: Full<Request, Response> = method;
    full.call(client, request, metadata, { deadline: Date.now() + DEADLINE_MS }, (error, response) => {
      if (error) reject(error);
      else if (response === undefined) reject(new Error('neither an answer nor an error'));
      else resolve(response);
    });
  });
}

/** A field that the contract says is always set. */
export function present<T>(field: T | null | undefined, what: string): T {
  if (field === null || field === undefined) throw new Error(`${what} is missing`);
  return field;
}
