// Writes what the vectors describe through the admin API.

import type * as grpc from '@grpc/grpc-js';
import { bearer, call, load, present } from './contract';
import type * as forms from './forms';
import * as messages from './messages';
import type { Place, State } from './places';

const ENVIRONMENT = 'live';
const PIECE = 50;

type Packages = ReturnType<typeof load>;
type Services = { [Name in keyof Packages['admin']['v1']]: Packages['admin']['v1'][Name] };
type ClientOf<Name extends keyof Services> = Services[Name] extends new (...a: never[]) => infer Client ? Client : never;

interface Revisions {
  revisions: { revision: string }[];
}

/** What asking in a place takes. */
export interface Prepared {
  project: string;
  serverKey: grpc.Metadata;
  revision: bigint;
}

export class Administrator {
  private credential = bearer('');

  constructor(
    private readonly auth: ClientOf<'AuthService'>,
    private readonly projects: ClientOf<'ProjectService'>,
    private readonly environments: ClientOf<'EnvironmentService'>,
    private readonly flags: ClientOf<'FlagService'>,
    private readonly segments: ClientOf<'SegmentService'>,
  ) {}

  async login(email: string, password: string): Promise<void> {
    const { access_token } = await call(this.auth, this.auth.Login, { email, password });
    this.credential = bearer(access_token);
  }

  /** Writes all of a place but the flags' configurations, as a project of its own. */
  async prepare(place: Place, project: string): Promise<Prepared> {
    await call(this.projects, this.projects.CreateProject, { project: { key: project } }, this.credential);
    const where = { project, environment: ENVIRONMENT };
    const environment = { project, key: ENVIRONMENT };
    const { keys } = await call(this.environments, this.environments.CreateEnvironment, { environment }, this.credential);
    const server = keys.find(({ key }) => key?.kind === 'KEY_KIND_SERVER');
    const steps: Revisions[] = [];
    for (const [key, form] of Object.entries(place.definitions)) {
      const flag = messages.flag(project, key, form);
      steps.push(await call(this.flags, this.flags.CreateFlag, { flag }, this.credential));
    }
    for (const key of Object.keys(place.segments)) {
      await call(this.segments, this.segments.CreateSegment, { segment: { project, key } }, this.credential);
    }
    for (const [key, form] of Object.entries(place.segments)) {
      if (form) steps.push(await this.configureSegment(where, key, form));
    }
    for (const [key, listed] of Object.entries(place.keyLists)) steps.push(await this.upload(where, key, listed));
    return { project, serverKey: bearer(present(server, 'a server key').secret), revision: newest(steps) };
  }

  /** Writes the flags' configurations; returns the newest revision. */
  async bringTo(state: State, project: string): Promise<bigint> {
    const steps: Revisions[] = [];
    for (const [key, form] of Object.entries(state.configurations)) {
      if (form) steps.push(await this.configureFlag({ project, environment: ENVIRONMENT }, key, form));
    }
    return newest(steps);
  }

  private configureSegment(where: messages.Where, key: string, form: forms.Segment): Promise<Revisions> {
    const configuration = messages.segmentConfiguration(where, key, form);
    return call(this.segments, this.segments.UpdateSegmentConfiguration, { configuration }, this.credential);
  }

  /** Uploads a list in pieces, and activates it. */
  private async upload(where: messages.Where, segment: string, keys: string[]): Promise<Revisions> {
    const { project } = where;
    const begun = await call(this.segments, this.segments.CreateSegmentUpload, { ...where, segment }, this.credential);
    const { upload } = begun;
    const pieces = Math.ceil(keys.length / PIECE);
    for (let piece = 0; piece < pieces; piece += 1) {
      const some = keys.slice(piece * PIECE, (piece + 1) * PIECE);
      await call(this.segments, this.segments.UploadSegmentKeys, { project, upload, piece, keys: some }, this.credential);
    }
    const activation = { project, upload, mode: 'UPLOAD_MODE_REPLACE', pieces } as const;
    return call(this.segments, this.segments.ActivateSegmentUpload, activation, this.credential);
  }

  private configureFlag(where: messages.Where, key: string, form: forms.Configuration): Promise<Revisions> {
    const configuration = messages.flagConfiguration(where, key, form);
    return call(this.flags, this.flags.UpdateFlagConfiguration, { configuration }, this.credential);
  }
}

function newest(steps: Revisions[]): bigint {
  const revisions = steps.flatMap((step) => step.revisions).map(({ revision }) => BigInt(revision));
  return revisions.reduce((a, b) => (a > b ? a : b), 0n);
}
