'use strict'

// Where a callback may go, and what the inputs of a run may be (fault sheet W01, W02, H01, Y15).

const assert = require('node:assert/strict')
const { test } = require('node:test')

const { isPublic, readId, readRegion, readTarget, resolveTarget, show } = require('../scripts/support/target.js')
const { deliver, PLANS } = require('../scripts/support/delivery.js')
const { environment, runCallback, SECRET } = require('./support/sender.js')

/** What is wrong with an address; nothing if it may be called. */
function complaint(url, origins) {
  try {
    readTarget({ CALLBACK_URL: url, CALLBACK_ORIGINS: origins })
    return ''
  } catch (error) {
    assert.equal(error.code, 'INVALID_INPUT', error.stack)
    return error.message
  }
}

const GOOD = [
  'https://app.example',
  'https://app.example/',
  'https://app.example:443/api',
  'https://APP.Example/api/webhooks/github',
  'https://app.example?token=a%20b',
  'https://app.example/a/b?c=d&e=https://x.y/@z:81',
  'https://a-b.c0.app.example/',
  'https://12.app.example/',
  'https://app.local.example/',
  'https://internal.example/',
  'https://app.xlocal/',
  `https://app.example/${'a'.repeat(2048 - 20)}`,
  'http://127.0.0.1:3000/api',
  'http://127.0.0.1',
  'http://localhost:3000/api?x=1',
  'http://[::1]:3000/',
  'https://127.0.0.1:8443/',
  'https://localhost/',
]

test('W01 addresses that may be called', () => {
  for (const url of GOOD) assert.equal(complaint(url), '', url)
})

/** Tricks, each with the rule that has to see it. */
const BAD = [
  ['is not set', undefined, ''],
  ['longer than 2048', `https://app.example/${'a'.repeat(2048 - 19)}`, `https://app.example/${'a'.repeat(65_536)}`],
  ['other than visible ASCII',
    ' https://app.example', 'https://app.example ', 'https://app.example/\n', 'https://app.example/a\r\nHost: b',
    'https://app\t.example', '\u0000https://app.example', 'https://app.example/\x1b[31m', 'https://bücher.example',
    'https://аpp.example', 'https://app。example', 'https://ａpp.example', 'https://app.example\u2028', 'https://①②⑦.⓪.⓪.①',
    'https://app.exam\u00adple', '\ufeffhttps://app.example', 'https://ﬀ.example', 'https://app.example/é',
  ],
  ['a backslash', 'https:\\\\app.example', 'https://app.example\\@10.0.0.1', 'https://app.example\\.evil.example', 'https:/\\app.example'],
  ['a fragment', 'https://app.example/#', 'https://app.example#@10.0.0.1', 'https://app.example/a#::error::b'],
  ['https:// and a name',
    'https:app.example', 'https:/app.example', 'https:///app.example', '//app.example', 'app.example', 'ftp://app.example',
    'file:///etc/passwd', 'javascript:alert(1)', 'data:text/plain,a', 'gopher://app.example', 'ws://app.example',
    'httpss://app.example', 'https://', 'https://?app.example', 'view-source:https://app.example', 'blob:https://app.example/a',
    'unix:/run/docker.sock', '$(id)', '-o/tmp/a',
  ],
  ['a user name or a password',
    'https://user@app.example', 'https://user:secret@app.example', 'https://@app.example', 'https://:@app.example',
    'https://app.example@10.0.0.1', 'https://app.example:443@evil.example', 'https://a@b@app.example', 'https://app.example%40x@y.example',
    'http://127.0.0.1:3000@evil.example', 'http://a@127.0.0.1:3000/',
  ],
  ['expected https', 'http://app.example', 'http://app.example:443', 'HTTP://app.example', 'http://10.0.0.1', 'http://127.0.0.2:3000',
    'http://169.254.169.254/latest/meta-data', 'http://[::2]:80', 'http://localhost.example'],
  ['got an IP address', 'https://10.0.0.1', 'https://8.8.8.8', 'https://127.0.0.2', 'https://169.254.169.254/', 'https://[fe80::1]',
    'https://[2606:4700::1111]', 'https://[::ffff:7f00:1]', 'https://0.0.0.0', 'https://[::]', 'https://255.255.255.255'],
  ['than it looks like',
    'https://0x7f.1', 'https://2130706433', 'https://017700000001', 'https://0x7f000001', 'https://127.1', 'https://0177.0.0.1',
    'https://127.0.1', 'https://0xa9fea9fe', 'https://2852039166', 'https://0', 'https://10.1', 'https://127.0.0.1.',
    'https://[::ffff:127.0.0.1]', 'https://[0:0:0:0:0:0:0:1]', 'https://[::127.0.0.1]', 'https://[64:ff9b::10.0.0.1]', 'https://[::01]',
    'https://app%2eexample', 'https://%61pp.example', 'https://app%2dexample.com', 'https://app.example:',
    'https://app.example:/a', 'http://0x7f.1:3000', 'http://2130706433:3000', 'http://127.1:3000', 'http://[0::1]:3000',
  ],
  ['is not an address', 'https://app.example:65536', 'https://app.example:443:443', 'https://app.example:-1', 'https://app.example:a',
    'https://1.2.3.4.5', 'https://256.0.0.1', 'https://app.1', 'https://app.0x1', 'https://[::1', 'https://[fe80::1%25eth0]',
    'https://a%20b.example', 'https://app.example%00.evil.example', 'https://:443', 'https://app<.example'],
  ['expected port 443', 'https://app.example:80', 'https://app.example:8443/', 'https://app.example:22', 'https://app.example:0', 'https://app.example:6379'],
  ['not the name of a host', 'https://app.example.', 'https://app..example', 'https://.app.example', 'https://-app.example', 'https://app-.example',
    'https://a_b.example', 'https://app!.example', "https://app'.example", 'https://app$.example', 'https://*.example', 'https://app,b.example',
    `https://${'a'.repeat(64)}.example`, `https://${'a.'.repeat(127)}example`, 'https://localhost.', 'https://..'],
  ['an inner network', 'https://app', 'https://metadata', 'https://metadata.google.internal', 'https://printer.local', 'https://PRINTER.LOCAL',
    'https://app.tailnet.ts.net', 'https://node.user.beta.tailscale.net', 'https://a.localhost', 'https://nas.lan', 'https://router.home',
    'https://router.home.arpa', 'https://a.localdomain', 'https://wiki.corp', 'https://wiki.intranet', 'https://a.private', 'https://a.test',
    'https://a.invalid', 'https://a.onion', 'https://1.0.0.127.in-addr.arpa'],
  ['beyond ASCII', 'https://xn--bcher-kva.example', 'https://XN--pp-example-7fg.com', 'https://app.xn--p1ai', 'https://xn--80ak6aa92e.com'],
]

test('W01 at least 80 tricks are refused, each by the rule that is meant for it', () => {
  let count = 0
  for (const [rule, ...urls] of BAD) {
    for (const url of urls) {
      count += 1
      const said = complaint(url)
      assert.ok(said.startsWith('CALLBACK_URL: ') && said.includes(rule), `${String(url).slice(0, 80)}: ${said}`)
      assert.match(said, /^[ -~…]{1,220}$/, 'one short line')
      assert.doesNotMatch(said, /::|secret/)
    }
  }
  assert.ok(count >= 80, String(count))
})

test('W01 CALLBACK_ORIGINS allows names, and forbids all others', () => {
  for (const [url, origins, expected] of [
    ['https://app.example/a', 'https://app.example', ''],
    ['https://app.example/a', 'https://APP.example:443/', ''],
    ['https://app.example/a', 'https://b.example, https://app.example', ''],
    ['https://app.example/a', 'https://b.example\n https://app.example,', ''],
    ['https://app.example/a', '', ''],
    ['https://app.example/a', ' ', ''],
    ['https://app.example/a', undefined, ''],
    ['https://app.tailnet.ts.net', 'https://app.tailnet.ts.net', ''],
    ['https://metadata', 'https://metadata', ''],
    ['https://xn--bcher-kva.example', 'https://xn--bcher-kva.example', ''],
    ['https://xn--bcher-kva.example', 'https://bücher.example', ''],
    ['http://127.0.0.1:3000/a', 'http://127.0.0.1:3000', ''],
    ['https://app.example', 'https://b.example', 'not one of CALLBACK_ORIGINS'],
    ['https://app.example.evil.example', 'https://app.example', 'not one of'],
    ['https://evil.example/https://app.example', 'https://app.example', 'not one of'],
    ['https://sub.app.example', 'https://app.example', 'not one of'],
    ['https://evilapp.example', 'https://app.example', 'not one of'],
    ['http://127.0.0.1:3001', 'http://127.0.0.1:3000', 'not one of'],
    ['http://127.0.0.1:3000', 'https://127.0.0.1:3000', 'not one of'],
    ['http://127.0.0.1:3000', 'https://app.example', 'not one of'],
    // The list opens names, and nothing else.
    ['https://app.example:8443', 'https://app.example:8443', 'expected port 443'],
    ['https://10.0.0.1', 'https://10.0.0.1', 'got an IP address'],
    ['https://a_b.example', 'https://a_b.example', 'not the name of a host'],
    ['http://app.example', 'https://app.example', 'expected https'],
    ['https://app.example', ',', 'CALLBACK_ORIGINS: names no origin'],
    ['https://app.example', '*', 'CALLBACK_ORIGINS: expected origins'],
    ['https://app.example', 'app.example', 'CALLBACK_ORIGINS: expected origins'],
    ['https://app.example', 'http://app.example', 'CALLBACK_ORIGINS: expected origins'],
    ['https://app.example', 'https://app.example/api', 'CALLBACK_ORIGINS: expected origins'],
    ['https://app.example', 'https://app.example?a', 'CALLBACK_ORIGINS: expected origins'],
    ['https://app.example', 'https://user@app.example', 'CALLBACK_ORIGINS: expected origins'],
    ['https://app.example', 'https://app.example https://', 'CALLBACK_ORIGINS: expected origins'],
  ]) {
    const said = complaint(url, origins)
    assert.ok(expected === '' ? said === '' : said.includes(expected), `${url} of ${origins}: ${said}`)
  }
})

const PUBLIC = [
  '1.1.1.1', '8.8.8.8', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255', '128.0.0.0',
  '169.253.255.255', '169.255.0.0', '172.15.255.255', '172.32.0.0', '192.0.1.0', '192.0.3.0', '192.167.255.255', '192.169.0.0',
  '198.17.255.255', '198.20.0.0', '198.51.99.255', '198.51.101.0', '203.0.112.255', '203.0.114.0', '223.255.255.255',
  '2606:4700::1111', '2a01:4f8::1', '2001:200::1', '2001:db7::1', '2001:db9::1', '2003::1', '64:ff9b::8.8.8.8', '64:ff9b::808:808',
]

const INNER = [
  '0.0.0.0', '0.255.255.255', '10.0.0.0', '10.255.255.255', '100.64.0.0', '100.100.100.100', '100.127.255.255', '127.0.0.1', '127.255.255.255',
  '169.254.0.0', '169.254.169.254', '172.16.0.0', '172.31.255.255', '192.0.0.0', '192.0.0.170', '192.0.2.1', '192.31.196.1', '192.52.193.1',
  '192.88.99.1', '192.168.0.0', '192.168.255.255', '192.175.48.1', '198.18.0.0', '198.19.255.255', '198.51.100.1', '203.0.113.255',
  '224.0.0.0', '239.255.255.255', '240.0.0.0', '255.255.255.254', '255.255.255.255',
  '::', '::1', '::2', '::7f00:1', '::127.0.0.1', '::ffff:10.0.0.1', '::ffff:7f00:1', '::ffff:8.8.8.8', '::ffff:0:10.0.0.1',
  '64:ff9b::10.0.0.1', '64:ff9b::7f00:1', '64:ff9b::100.64.0.1', '64:ff9b::a9fe:a9fe', '64:ff9b::', '64:ff9b:1::808:808',
  '100::1', '2001::1', '2001:0:808:808::1', '2001:2::1', '2001:10::1', '2001:20::1', '2001:1ff::1', '2001:db8::1', '2001:db8:ffff::1',
  '2002:a00:1::1', '2002:7f00:1::', '2002:808:808::1', '2620:4f:8000::1', '3ffe::1', '3fff::1', '3fff:fff::1',
  '4000::1', '5f00::1', 'fc00::1', 'fd7a:115c:a1e0::1', 'fdff::1', 'fe80::1', 'febf::1', 'fec0::1', 'ff00::1', 'ff02::1', 'ffff::1',
  'fe80::1%eth0', '2606:4700::1111%eth0', '0x7f.1', '127.1', '8.8.8.8.', ' 8.8.8.8', '8.8.8.8/8', '', 'localhost', undefined, 134744072,
]

test('W02 at least 60 ranges: what is reached from everywhere is public, and nothing else', () => {
  assert.ok(PUBLIC.length + INNER.length >= 60 && INNER.length >= 60)
  for (const address of PUBLIC) assert.equal(isPublic(address), true, address)
  for (const address of INNER) assert.equal(isPublic(address), false, String(address))
})

test('W02 one inner address among public ones spoils them all', async () => {
  const target = readTarget({ CALLBACK_URL: 'https://app.example/' })
  const answering = (...addresses) => async (name) => {
    assert.equal(name, 'app.example')
    return addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  }
  const good = ['2606:4700::1111', '8.8.8.8']
  assert.deepEqual((await resolveTarget(target, answering(...good))).map(({ address }) => address), good)
  for (const bad of ['10.0.0.1', '100.64.0.1', '::1']) {
    for (const addresses of [[bad], [...good, bad], [bad, ...good]]) {
      const refused = resolveTarget(target, answering(...addresses))
      const message = `CALLBACK_URL: app.example has the address ${bad}, which is not public`
      await assert.rejects(refused, { code: 'INVALID_INPUT', message })
    }
  }
})

test('W02 loopback is never looked up', async () => {
  const fail = () => assert.fail('looked up')
  for (const [url, ...expected] of [
    ['http://127.0.0.1:1', '127.0.0.1'],
    ['http://[::1]:1', '::1'],
    ['http://localhost:1', '127.0.0.1', '::1'],
  ]) {
    const found = await resolveTarget(readTarget({ CALLBACK_URL: url }), fail)
    assert.deepEqual(found.map(({ address }) => address), expected)
  }
})

/** A delivery to a public name, whose look-ups answer one after another. No connection is made: each is told of. */
async function deliverTo(answers, plan = PLANS.running) {
  const connections = []
  const ports = {
    now: Date.now,
    elapsed: () => 0,
    sleep: async () => {},
    random: Math.random,
    lookup: async () => answers.shift().map((address) => ({ address, family: 4 })),
    request: (url, { lookup }) => {
      // As Node.js asks: for all addresses, and for one.
      lookup(url.hostname, { all: true }, (_error, all) => connections.push(...all.map(({ address }) => address)))
      lookup(url.hostname, {}, (_error, address) => connections.push(address))
      throw Object.assign(new Error(), { code: 'ECONNREFUSED' })
    },
  }
  const target = readTarget({ CALLBACK_URL: 'https://app.example/' })
  const { signal } = new AbortController()
  const outcome = await deliver({ id: 'a', body: '{}' }, { target, secret: SECRET, plan, signal }, ports)
  return { outcome, connections }
}

test('W02 a name that changes between tries never leads to an inner address', async () => {
  const { outcome, connections } = await deliverTo([['8.8.8.8'], ['8.8.4.4', '1.1.1.1'], ['8.8.8.8', '10.0.0.1'], ['8.8.8.8']])
  assert.deepEqual([outcome.kind, outcome.tries], ['unsafe', 3])
  assert.deepEqual(connections, ['8.8.8.8', '8.8.8.8', '8.8.4.4', '1.1.1.1', '8.8.4.4'])
})

test('W02 an inner address is not tried again', async () => {
  const { outcome, connections } = await deliverTo([['169.254.169.254'], ['8.8.8.8']])
  assert.deepEqual([outcome.kind, outcome.tries, connections], ['unsafe', 1, []])
})

test('W02 a name without an address may have one later', async () => {
  const { outcome, connections } = await deliverTo([[], [], ['10.0.0.1']])
  assert.deepEqual([outcome.kind, outcome.tries, connections], ['unsafe', 3, []])
  const { outcome: last } = await deliverTo([[], [], []], PLANS.provisioning)
  assert.deepEqual([last.kind, last.reason], ['passing', 'the name has no address'])
})

test('H01 ids and regions have a grammar', () => {
  const ends = ['a', '1', 'a-b', 'a.b_c', 'A'.repeat(63), '550e8400-e29b-41d4-a716-446655440000']
  const never = [
    '-a', 'a-', '.a', 'a.', '_a', 'a_', 'a'.repeat(64), 'a b', 'a/b', 'ä', 'a\n', '\na',
    '$(id)', 'a;b', '{{ a }}', '"a"', "'", '::error::a', '',
  ]
  const good = (read, name, text) => assert.equal(read(name, text), text)
  const bad = (read, name, text) => assert.throws(() => read(name, text), { code: 'INVALID_INPUT', message: new RegExp(`^${name}: `) })
  for (const id of ends) good(readId, 'JOB_ID', id)
  for (const id of [...never, undefined, 'a'.repeat(65_536)]) bad(readId, 'AGENT_ID', id)
  for (const region of ['us-east', 'nbg1', '-', 'a'.repeat(63)]) good(readRegion, 'REGION', region)
  for (const region of ['', undefined, 'US', 'us_east', 'us.east', 'a'.repeat(64), 'a\n', ' a', 'é']) bad(readRegion, 'REGION', region)
})

test('H01 hostile text is shown as a short piece in which nothing is a command', () => {
  for (const [text, expected] of [
    ['abc', '"abc"'],
    ['a\nb\r\x1b[31m\u009b\u202eé', '"a?b??[31m???"'],
    ['::error::x', '": :error: :x"'],
    ['::::', '": : : :"'],
    ['##[error]x', '"# #[error]x"'],
    ['a"b\\c', '"a?b?c"'],
    ['a'.repeat(65_536), `"${'a'.repeat(40)}…" (65536 characters)`],
  ]) {
    assert.equal(show(text), expected)
  }
})

test('H01 check names every input that is not good, sends nothing, and prints nothing of it that is a command', async () => {
  const HOSTILE = ['a\n::error::b', '$(touch a)', '\x1b[31mred', '##[error]b', `a${'b'.repeat(65_536)}`, '']
  const url = 'http://127.0.0.1:9'
  const one = (more) => runCallback('check', environment({ url }, { GH_CALLBACK_SECRET: undefined, ...more })).ended
  const good = await one({})
  assert.deepEqual([good.code, good.stderr], [0, '[Callback] the inputs are good\n'])
  await Promise.all(HOSTILE.map(async (text) => {
    const { code, stderr } = await one({ JOB_ID: text, AGENT_ID: text, REGION: text, CALLBACK_URL: text })
    assert.equal(code, 2, stderr)
    const lines = stderr.trimEnd().split('\n')
    assert.deepEqual(lines.map((line) => /error: ([A-Z_]+): /.exec(line)?.[1]), ['JOB_ID', 'AGENT_ID', 'REGION', 'CALLBACK_URL'])
    for (const line of lines) assert.ok(/^\[Callback\] [ -~…]{1,200}$/.test(line) && !/::|##/.test(line), line)
  }))
  for (const name of ['JOB_ID', 'AGENT_ID', 'REGION', 'CALLBACK_URL', 'CALLBACK_ORIGINS']) {
    const { code, stderr } = await one({ [name]: '!', GITHUB_ACTIONS: 'true' })
    assert.deepEqual([code, stderr.split('\n').length], [2, 3], stderr)
    assert.match(stderr, new RegExp(`^\\[Callback\\] error: ${name}: .*\n::error title=INVALID_INPUT::${name}: .*\n$`))
  }
})
