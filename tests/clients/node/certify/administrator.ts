// Writes worlds through the admin API.

import type * as grpc from '@grpc/grpc-js';
import { bearer, call, load, present } from './contract';
import type * as forms from './forms';
import * as messages from './messages';
import type { World } from './worlds';

const ENVIRONMENT = 'live';
const PIECE = 50;

type Packages = ReturnType<typeof load>;
type Services = { [Name in keyof Packages['admin']['v1']]: Packages['admin']['v1'][Name] };
type ClientOf<Name extends keyof Services> = Services[Name] extends new (...a: never[]) => infer Client ? Client : never;

interface Revisions {
  revisions: { revision: string }[];
}

/** What reading a world takes. */
export interface Written {
  serverKey: grpc.Metadata;
  revision: string;
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

  /** Writes a world as a project of its own. */
  async write(world: World, project: string): Promise<Written> {
    await call(this.projects, this.projects.CreateProject, { project: { key: project } }, this.credential);
    const place = { project, environment: ENVIRONMENT };
    const environment = { project, key: ENVIRONMENT };
    const { keys } = await call(this.environments, this.environments.CreateEnvironment, { environment }, this.credential);
    const server = keys.find(({ key }) => key?.kind === 'KEY_KIND_SERVER');
    const steps: Revisions[] = [];
    for (const [key, { definition }] of Object.entries(world.flags)) {
      const flag = messages.flag(project, key, present(definition, `the definition of ${key}`));
      steps.push(await call(this.flags, this.flags.CreateFlag, { flag }, this.credential));
    }
    for (const key of Object.keys(world.segments)) {
      await call(this.segments, this.segments.CreateSegment, { segment: { project, key } }, this.credential);
    }
    for (const [key, form] of Object.entries(world.segments)) {
      if (form) steps.push(await this.configureSegment(place, key, form));
    }
    for (const [key, keys] of Object.entries(world.keyLists)) steps.push(await this.upload(place, key, keys));
    for (const [key, { configuration }] of Object.entries(world.flags)) {
      if (configuration) steps.push(await this.configureFlag(place, key, configuration));
    }
    const revisions = steps.flatMap((step) => step.revisions).map(({ revision }) => BigInt(revision));
    const newest = revisions.reduce((a, b) => (a > b ? a : b), 0n);
    return { serverKey: bearer(present(server, 'a server key').secret), revision: `${newest}` };
  }

  private configureSegment(place: messages.Place, key: string, form: forms.Segment): Promise<Revisions> {
    const configuration = messages.segmentConfiguration(place, key, form);
    return call(this.segments, this.segments.UpdateSegmentConfiguration, { configuration }, this.credential);
  }

  /** Uploads a list in pieces, and activates it. */
  private async upload(place: messages.Place, segment: string, keys: string[]): Promise<Revisions> {
    const { project } = place;
    const begun = await call(this.segments, this.segments.CreateSegmentUpload, { ...place, segment }, this.credential);
    const { upload } = begun;
    const pieces = Math.ceil(keys.length / PIECE);
    for (let piece = 0; piece < pieces; piece += 1) {
      const some = keys.slice(piece * PIECE, (piece + 1) * PIECE);
      await call(this.segments, this.segments.UploadSegmentKeys, { project, upload, piece, keys: some }, this.credential);
    }
    const activation = { project, upload, mode: 'UPLOAD_MODE_REPLACE', pieces } as const;
    return call(this.segments, this.segments.ActivateSegmentUpload, activation, this.credential);
  }

  private configureFlag(place: messages.Place, key: string, form: forms.Configuration): Promise<Revisions> {
    const configuration = messages.flagConfiguration(place, key, form);
    return call(this.flags, this.flags.UpdateFlagConfiguration, { configuration }, this.credential);
  }
}
