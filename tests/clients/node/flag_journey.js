'use strict';

// A Node program uses Halyard: from a login to a change that arrives on a stream.
//
// Asks for HALYARD_ENDPOINT, HALYARD_EMAIL and HALYARD_PASSWORD, as `halyard dev` writes them into dev.env. Makes a project of
// its own. Ends with 1 and a sentence at the first answer that is not what the contract says.

const assert = require('node:assert/strict');
const { createHash, randomUUID } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const ROOT = path.resolve(__dirname, '../../..');
const DEADLINE_MS = 20_000;
const FLAG = 'new-checkout';
const LARGE = '9007199254740993'; // 2^53 + 1, which no JavaScript number holds.

// Field names as in proto/, 64-bit numbers and enums as strings; `oneofs` says which field of a oneof is set.
const definition = protoLoader.loadSync(
  [
    'halyard/admin/v1/auth_service.proto',
    'halyard/admin/v1/environment_service.proto',
    'halyard/admin/v1/flag_service.proto',
    'halyard/admin/v1/project_service.proto',
    'halyard/evaluation/v1/evaluation_service.proto',
    'halyard/evaluation/v1/watch_service.proto',
  ],
  { includeDirs: [path.join(ROOT, 'proto')], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const { halyard } = grpc.loadPackageDefinition(definition);
// What `grpc-status-details-bin` holds: google.rpc.Status, and those of the details that are looked at here.
const rpc = require('protobufjs').loadSync(path.join(__dirname, 'google_rpc.proto'));

function bearer(credential) {
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${credential}`);
  return metadata;
}

const deadline = (ms = DEADLINE_MS) => ({ deadline: Date.now() + ms });

// Calls a method, with promises instead of callbacks.
function call(client, method, request, metadata, options = deadline()) {
  return new Promise((resolve, reject) => {
    client[method](request, metadata, options, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

// What the server holds, as a stream tells it: it changes at Commit and at no other time.
class Mirror {
  items = new Map(); // "kind key" -> Put
  revision = '0';
  resumeToken = Buffer.alloc(0);

  // Reads one step, applies it, and returns its Begin.
  async nextCommit(messages) {
    let begin;
    let held;
    for (;;) {
      const { done, value } = await messages.next();
      assert.ok(!done, 'the stream ended without a Commit');
      const id = ({ kind, key }) => `${kind} ${key}`;
      switch (value.message) {
        case 'begin':
          begin = value.begin;
          held = new Map(begin.intent === 'INTENT_SNAPSHOT' ? [] : this.items);
          break;
        case 'item':
          if (value.item.change === 'put') held.set(id(value.item.put), value.item.put);
          else held.delete(id(value.item.delete));
          break;
        case 'commit':
          assert.equal(stateHash(held), value.commit.state_hash.toString('hex'), 'the state hash');
          this.items = held;
          this.revision = value.commit.revision;
          this.resumeToken = value.commit.resume_token;
          return begin;
        default:
          assert.equal(value.message, 'heartbeat', 'between steps come heartbeats');
      }
    }
  }

  isEnabled(flag) {
    return this.items.get(`flag_configuration ${flag}`)?.flag_configuration.enabled ?? false;
  }
}

// The XOR over all items of SHA-256(kind, key, form hash), each preceded by its length as a big-endian 64-bit number.
function stateHash(items) {
  const total = Buffer.alloc(32);
  for (const { kind, key, form_hash } of items.values()) {
    const hash = createHash('sha256');
    for (const field of [kind, key, form_hash]) {
      const bytes = Buffer.from(field);
      const length = Buffer.alloc(8);
      length.writeBigUInt64BE(BigInt(bytes.length));
      hash.update(length).update(bytes);
    }
    hash.digest().forEach((byte, n) => (total[n] ^= byte));
  }
  return total.toString('hex');
}

// The details of a refusal by their types' names, once its code is the one expected.
async function refused(code, answer) {
  const error = await answer.then(
    () => assert.fail(`the call was answered, though ${grpc.status[code]} was expected`),
    (error) => error,
  );
  assert.equal(grpc.status[error.code], grpc.status[code], error.message);
  const [packed] = error.metadata.get('grpc-status-details-bin');
  const status = rpc.lookupType('google.rpc.Status').decode(packed);
  return Object.fromEntries(
    status.details.map(({ type_url, value }) => {
      const name = type_url.split('/').pop();
      const detail = rpc.lookup(name)?.decode(value);
      return [name.split('.').pop(), detail];
    }),
  );
}

async function main() {
  const target = new URL(process.env.HALYARD_ENDPOINT).host;
  const serviceConfig = fs.readFileSync(path.join(ROOT, 'docs/service-config.json'), 'utf8');
  const channel = new grpc.Channel(target, grpc.credentials.createInsecure(), { 'grpc.service_config': serviceConfig });
  const client = (Service) => new Service(target, null, { channelOverride: channel });
  try {
    await journey(client);
  } finally {
    channel.close();
  }
}

async function journey(client) {
  const { AuthService, EnvironmentService, FlagService, ProjectService } = halyard.admin.v1;
  const { EvaluationService, WatchService } = halyard.evaluation.v1;

  const { HALYARD_EMAIL: email, HALYARD_PASSWORD: password } = process.env;
  const login = await call(client(AuthService), 'login', { email, password }, new grpc.Metadata());
  const admin = bearer(login.access_token);
  console.log(`logged in as ${login.user.email}`);

  const project = `node-${randomUUID().slice(0, 8)}`;
  await call(client(ProjectService), 'createProject', { project: { key: project } }, admin);
  const { keys } = await call(
    client(EnvironmentService),
    'createEnvironment',
    { environment: { project, key: 'live' } },
    admin,
  );
  const serverKey = bearer(keys.find(({ key }) => key.kind === 'KEY_KIND_SERVER').secret);
  console.log(`made ${project} with an environment and ${keys.length} keys`);

  const flags = client(FlagService);
  const quota = {
    project,
    key: 'quota',
    type: 'VALUE_TYPE_INTEGER',
    variants: [{ key: 'large', integer_value: LARGE }],
    off_variant: 'large',
  };
  await call(flags, 'createFlag', { flag: quota }, admin);
  const created = await call(flags, 'createFlag', { flag: { project, key: FLAG, type: 'VALUE_TYPE_BOOL' } }, admin);

  const evaluations = client(EvaluationService);
  const context = { targeting_key: 'alice', attributes: { fields: { plan: { stringValue: 'gold' } } } };
  const evaluate = (flag, min_revision, metadata = serverKey, options = deadline()) =>
    call(evaluations, 'evaluate', { flag, context, min_revision }, metadata, options).then((it) => it.evaluation);

  const off = await evaluate(FLAG, created.revisions[0].revision);
  assert.deepEqual([off.bool_value, off.variant, off.reason], [false, 'off', 'REASON_DISABLED'], 'a new flag');
  assert.equal((await evaluate('quota', off.revision)).integer_value, LARGE, 'a 64-bit value');
  console.log(`${FLAG} is ${off.variant} at revision ${off.revision}`);

  const watch = client(WatchService);
  const mirror = new Mirror();
  const stream = watch.watch({}, serverKey, deadline());
  const messages = stream[Symbol.asyncIterator]();
  assert.equal((await mirror.nextCommit(messages)).intent, 'INTENT_SNAPSHOT', 'the first step');
  assert.equal(mirror.revision, off.revision, "the snapshot's revision");
  assert.equal(mirror.isEnabled(FLAG), false, 'the flag in the snapshot');

  const toggles = [{ flag: FLAG, enabled: true }];
  const toggled = await call(flags, 'toggleFlags', { project, environment: 'live', toggles }, admin);
  const { revision } = toggled.revisions[0];
  assert.equal((await mirror.nextCommit(messages)).intent, 'INTENT_DELTA', 'the second step');
  assert.equal(mirror.revision, revision, "the change's revision");
  assert.equal(mirror.isEnabled(FLAG), true, 'the flag after the change');
  end(stream);
  console.log(`the stream carried the change to revision ${revision}, ${mirror.items.size} items, state hash verified`);

  const resumed = watch.watch({ resume_token: mirror.resumeToken }, serverKey, deadline());
  const begin = await mirror.nextCommit(resumed[Symbol.asyncIterator]());
  assert.deepEqual([begin.intent, mirror.revision], ['INTENT_NONE', revision], 'a resumed stream');
  end(resumed);

  const on = await evaluate(FLAG, revision);
  assert.deepEqual([on.bool_value, on.variant, on.reason], [true, 'on', 'REASON_STATIC'], 'the flag that is on');
  console.log(`${FLAG} is ${on.variant} at revision ${on.revision}`);

  const missing = await refused(grpc.status.NOT_FOUND, evaluate('no-such-flag', 0));
  assert.equal(missing.ResourceInfo.resourceName, 'no-such-flag', 'what is missing');
  const unknown = await refused(grpc.status.UNAUTHENTICATED, evaluate(FLAG, 0, bearer('halyard_server_no')));
  assert.deepEqual([unknown.ErrorInfo.domain, unknown.ErrorInfo.reason], ['halyard', 'INVALID_CREDENTIAL'], 'why');
  const invalid = call(flags, 'createFlag', { flag: { project, key: 'not a key' } }, admin);
  const { fieldViolations } = (await refused(grpc.status.INVALID_ARGUMENT, invalid)).BadRequest;
  assert.deepEqual(fieldViolations.map(({ field }) => field).sort(), ['flag.key', 'flag.type'], 'every invalid field');

  const started = Date.now();
  const late = evaluate(FLAG, `${BigInt(revision) + 1000n}`, serverKey, deadline(300));
  const { code } = await late.then(
    () => assert.fail('a revision that does not exist was answered'),
    (error) => error,
  );
  assert.ok([grpc.status.DEADLINE_EXCEEDED, grpc.status.UNAVAILABLE].includes(code), `${grpc.status[code]} at the deadline`);
  assert.ok(Date.now() - started < 10_000, 'the deadline was not kept');
  console.log('refusals carry their codes and details, and deadlines are kept');
}

// Ends a stream from this side, which its reader would otherwise be told as an error.
function end(stream) {
  stream.on('error', () => {});
  stream.cancel();
}

main().catch((error) => {
  console.error(`flag_journey.js: ${error.message}`);
  process.exit(1);
});
