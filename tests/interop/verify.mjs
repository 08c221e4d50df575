// node verify.mjs BUNDLE PUBLIC_KEY: verify a bundle's signature with a plain public key; prints the payload.
// No transparency log, timestamp or certificate authority is asked for: a key that the user gives needs none.
import { createHash, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { bundleFromJSON } from '@sigstore/bundle';
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';

const [bundlePath, keyPath] = process.argv.slice(2);
const key = createPublicKey(readFileSync(keyPath)).export({ format: 'der', type: 'spki' });
const names = {
  der: createHash('sha256').update(key).digest('hex'), // m.json
  pem: createHash('sha256').update(createPublicKey(readFileSync(keyPath)).export({ format: 'pem', type: 'spki' })).digest('hex'), // model.sig
};
const nobody = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const trusted = toTrustMaterial(nobody, { [names.der]: { rawBytes: key }, [names.pem]: { rawBytes: key } });
const bundle = bundleFromJSON(JSON.parse(readFileSync(bundlePath, 'utf8')));
const verifier = new Verifier(trusted, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
verifier.verify(toSignedEntity(bundle));
if (bundle.content.$case !== 'dsseEnvelope') throw new Error('no DSSE envelope');
process.stdout.write(bundle.content.dsseEnvelope.payload);
