// An OpenID provider for tests: `node provider.mjs ENTRY CONFIGURATION`, where ENTRY is the path of oidc-provider's own entry file
// and CONFIGURATION is JSON: { clients, users: { LOGIN: { CLAIM: VALUE } } }. It prints its address as soon as it answers, and ends
// when its standard input does.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { pathToFileURL } from 'node:url';

// Nobody reads standard output after the address.
console.log = console.info = console.error;

const { Provider } = await import(pathToFileURL(process.argv[2]));
const { clients, users } = JSON.parse(process.argv[3]);

const key = (kind, options, alg) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }),
  alg,
  use: 'sig',
  kid: randomBytes(8).toString('hex'),
});
const newKeys = () => [key('rsa', { modulusLength: 2048 }, 'RS256'), key('ec', { namedCurve: 'P-256' }, 'ES256')];

let issuer;
let keys = newKeys();
let full = false;
let handle;

// Its settings are fixed once it is made: a change makes another one, on the same store.
function renew() {
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: ['a key of tests'] },
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
      job: ['repository', 'ref', 'workflow', 'actor', 'project_path', 'ref_type', 'pipeline_id', 'user_login'],
    },
    conformIdTokenClaims: !full,
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    pkce: { required: () => true },
    findAccount: (_, id) => users[id] && { accountId: id, claims: () => ({ sub: id, ...users[id] }) },
  });
  // Clients under test listen wherever a port is free.
  provider.Client.prototype.redirectUriAllowed = (uri) =>
    ['127.0.0.1', '[::1]', 'localhost'].includes(new URL(uri).hostname);
  handle = provider.callback();
}

const server = createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/control/rotate') {
    keys = newKeys();
    renew();
    response.end();
  } else if (request.method === 'POST' && request.url === '/control/full') {
    full = true;
    renew();
    response.end();
  } else {
    handle(request, response);
  }
});
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  renew();
  process.stdout.write(`${issuer}\n`);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
