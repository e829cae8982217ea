'use strict';

// What a page in a browser does: asks whether it may call, evaluates, is refused with details, and watches a change arrive, over
// gRPC-Web by nothing but fetch, which speaks HTTP/1.1 here. protobufjs reads and writes the messages, as it does in browsers.
//
// Asks for what `halyard dev` writes into dev.env, of a server that lets pages of ORIGIN call.

const assert = require('node:assert/strict');
const path = require('node:path');
const protobuf = require('protobufjs');

const ROOT = path.resolve(__dirname, '../../..');
const ORIGIN = 'https://shop.example';
const FLAG = 'new-checkout';
const { HALYARD_ENDPOINT: endpoint, HALYARD_CLIENT_KEY: key, HALYARD_EMAIL: email, HALYARD_PASSWORD: password } = process.env;

const root = new protobuf.Root();
root.resolvePath = (_, target) => (target.startsWith('google/') || path.isAbsolute(target) ? target : path.join(ROOT, 'proto', target));
root.loadSync([
  'halyard/admin/v1/auth_service.proto',
  'halyard/admin/v1/flag_service.proto',
  'halyard/evaluation/v1/evaluation_service.proto',
  'halyard/evaluation/v1/watch_service.proto',
]);
// What `grpc-status-details-bin` holds.
const rpc = protobuf.loadSync(path.join(__dirname, 'google_rpc.proto'));

function framed(message) {
  const frame = new Uint8Array(5 + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, 5);
  return frame;
}

// The frames of a body as they come: whether each is the trailers, and its content.
async function* frames(body) {
  let held = Buffer.alloc(0);
  for await (const piece of body) {
    held = Buffer.concat([held, piece]);
    while (held.length >= 5 && held.length >= 5 + held.readUInt32BE(1)) {
      const end = 5 + held.readUInt32BE(1);
      yield { isTrailers: (held[0] & 0x80) !== 0, content: held.subarray(5, end) };
      held = held.subarray(end);
    }
  }
  assert.equal(held.length, 0, 'the body ended within a frame');
}

// Throws unless the call ended well.
function finish(content) {
  const lines = content.toString().split('\r\n').filter(Boolean);
  const trailers = new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]));
  const code = Number(trailers.get('grpc-status'));
  if (code === 0) return;
  const status = rpc.lookupType('google.rpc.Status').decode(Buffer.from(trailers.get('grpc-status-details-bin'), 'base64'));
  const info = status.details.find((any) => any.type_url.endsWith('google.rpc.ErrorInfo'));
  const { reason } = rpc.lookupType('google.rpc.ErrorInfo').decode(info.value);
  throw Object.assign(new Error(decodeURIComponent(trailers.get('grpc-message'))), { code, reason });
}

// Calls a method; yields its messages, and throws what it is refused with.
async function* call(name, request, credential) {
  const service = root.lookupService(name.slice(0, name.lastIndexOf('.')));
  const method = service.methods[name.slice(name.lastIndexOf('.') + 1)].resolve();
  const response = await fetch(`${endpoint}/${service.fullName.slice(1)}/${method.name}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/grpc-web+proto',
      'x-grpc-web': '1',
      origin: ORIGIN,
      ...(credential && { authorization: `Bearer ${credential}` }),
    },
    body: framed(method.resolvedRequestType.encode(method.resolvedRequestType.fromObject(request)).finish()),
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('access-control-allow-origin'), ORIGIN);
  let ended = false;
  for await (const { isTrailers, content } of frames(response.body)) {
    if (isTrailers) {
      finish(content);
      ended = true;
    } else {
      yield method.resolvedResponseType.decode(content);
    }
  }
  assert.ok(ended, 'the call ended without trailers');
}

async function unary(name, request, credential) {
  const answers = [];
  for await (const answer of call(name, request, credential)) answers.push(answer);
  assert.equal(answers.length, 1);
  return answers[0];
}

const context = { targetingKey: 'alice' };
const evaluate = (flag, credential) => unary('halyard.evaluation.v1.EvaluationService.Evaluate', { flag, context }, credential);

async function mayCall() {
  const headers = {
    origin: ORIGIN,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization,content-type,x-grpc-web',
  };
  const url = `${endpoint}/halyard.evaluation.v1.EvaluationService/Evaluate`;
  const allowed = await fetch(url, { method: 'OPTIONS', headers });
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers.get('access-control-allow-origin'), ORIGIN);
  const foreign = await fetch(url, { method: 'OPTIONS', headers: { ...headers, origin: 'https://elsewhere.example' } });
  assert.equal(foreign.headers.get('access-control-allow-origin'), null);
}

async function isRefused() {
  const refused = (code, reason) => (error) => {
    assert.deepEqual([error.code, error.reason], [code, reason]);
    assert.ok(error.message.length > 10);
    return true;
  };
  await assert.rejects(evaluate(FLAG, 'nothing'), refused(16, 'INVALID_CREDENTIAL'));
  await assert.rejects(evaluate('', key), refused(3, 'INVALID_FIELDS'));
}

async function toggle(flag, enabled) {
  const { accessToken } = await unary('halyard.admin.v1.AuthService.Login', { email, password, accessOnly: true });
  const request = { project: 'demo', environment: 'dev', toggles: [{ flag, enabled }] };
  await unary('halyard.admin.v1.FlagService.ToggleFlags', request, accessToken);
}

// The answers of a stream change under the one who holds them. Whoever stops reading has left it.
async function watchesAChange() {
  const request = { context, flags: [FLAG] };
  const batches = call('halyard.evaluation.v1.WatchService.WatchEvaluations', request, key);
  let before;
  for await (const message of batches) {
    const found = message.batch?.evaluations.find((it) => it.flag === FLAG);
    if (found === undefined) continue;
    if (before === undefined) {
      before = found;
      assert.notEqual(found.variant, '');
      await toggle(FLAG, false);
    } else {
      assert.equal(found.variant, 'off');
      return;
    }
  }
  assert.fail('the stream ended');
}

(async () => {
  await mayCall();
  const { evaluation } = await evaluate(FLAG, key);
  assert.equal(evaluation.flag, FLAG);
  await isRefused();
  await watchesAChange();
})().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
