// Asks the npm package mailauth: one request per line on stdin, one answer per line on stdout.
// The arguments are a folder with node_modules in it and a file with the DNS:
// {name: {type: records}}, or {name: null} for a name that cannot be looked up.
'use strict';

const { createRequire } = require('node:module');
const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');

const [folder, zone] = process.argv.slice(2);
console.log = console.error; // it tells of odd lengths there
const load = createRequire(path.join(path.resolve(folder), 'package.json'));
const { authenticate } = load('mailauth');
const { dkimSign } = load('mailauth/lib/dkim/sign');
const { sealMessage } = load('mailauth/lib/arc');
const dns = JSON.parse(fs.readFileSync(zone));

const fail = code => {
    throw Object.assign(new Error(code), { code });
};

const resolver = async (name, type) => {
    name = name.toLowerCase();
    if (!Object.hasOwn(dns, name)) {
        fail('ENOTFOUND');
    }
    if (dns[name] === null) {
        fail('ETIMEOUT');
    }
    return dns[name][type] || fail('ENODATA');
};

const judge = async ({ raw, ip, helo, sender }) => {
    const found = await authenticate(Buffer.from(raw, 'base64'), {
        resolver, ip, helo, sender, mta: 'mx.example', disableBimi: true
    });
    return {
        spf: found.spf.status.result,
        dkim: found.dkim.results.map(each => each.status.result),
        arc: found.arc.status.result,
        dmarc: found.dmarc ? found.dmarc.status.result : '',
        policy: (found.dmarc && found.dmarc.policy) || ''
    };
};

const sign = async ({ raw, keys, form }) => {
    const { signatures, errors } = await dkimSign(Buffer.from(raw, 'base64'), {
        canonicalization: form, signatureData: keys, signTime: new Date()
    });
    if (errors.length) {
        throw errors[0].err;
    }
    return { fields: signatures };
};

// the state of the chain so far is what it finds itself
const seal = async request => {
    const raw = Buffer.from(request.raw, 'base64');
    const found = await authenticate(raw, { resolver, ...request.envelope, disableBimi: true });
    const fields = await sealMessage(raw, {
        ...request.key, authResults: request.results, cv: found.arc.status.result,
        signTime: new Date() // or else it takes the time twice, and a seal may be wrong
    });
    return { fields: fields.toString() };
};

const tasks = { judge, sign, seal };

(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const request = JSON.parse(line);
        const answer = await tasks[request.task](request).catch(err => ({ error: err.stack }));
        process.stdout.write(JSON.stringify(answer) + '\n');
    }
})();
