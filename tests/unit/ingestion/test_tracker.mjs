// The tracker's behaviour, in Node: `node --test tests/unit/ingestion/test_tracker.mjs`. test_tracker.py runs it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Browser, Storage } from './test_tracker_browser.mjs';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const names = (events) => events.map((event) => event.event || event.type);
const ids = (events) => events.map((event) => event.messageId);

test('events become one batch in the shape of Segment, with the page, the visitor and the session', async () => {
  const browser = new Browser();
  const tracker = browser.loaded();
  tracker.page('Kettles', { category: 'kitchen' });
  tracker.track('Product Viewed', { product_id: 'kettle' });
  await browser.pass(SECOND);
  assert.equal(browser.requests.length, 1);
  const [request] = browser.requests;
  assert.equal(request.url, 'https://events.example/v1/batch');
  assert.deepEqual([request.writeKey, request.sentAt], ['key', '2026-01-01T00:00:00.250Z']);
  assert.equal(request.options.headers['Content-Type'], 'text/plain'); // another would need a preflight
  assert.ok(request.options.keepalive);
  const [page, viewed] = request.batch;
  assert.deepEqual([page.type, page.name, page.timestamp], ['page', 'Kettles', '2026-01-01T00:00:00.000Z']);
  const properties = { url: 'https://shop.example/kettles?page=2', path: '/kettles', search: '?page=2', title: 'A shop' };
  assert.deepEqual({ ...page.properties }, { ...properties, referrer: 'https://search.example/', category: 'kitchen' });
  assert.deepEqual([viewed.type, viewed.event, viewed.properties.product_id], ['track', 'Product Viewed', 'kettle']);
  assert.equal(viewed.anonymousId, page.anonymousId);
  assert.equal(viewed.context.sessionId, page.context.sessionId);
  assert.equal(new Set(ids(request.batch)).size, 2);
  assert.ok(!('userId' in JSON.parse(JSON.stringify(viewed))));
});

test('a full batch goes at once, a large one in several bodies below 64 KB, one event at a time in order', async () => {
  const browser = new Browser();
  const tracker = browser.loaded({ flushAt: 3 });
  tracker.track('a');
  tracker.track('b');
  assert.equal(browser.requests.length, 0);
  tracker.track('c');
  assert.deepEqual(names(browser.sent), ['a', 'b', 'c']);
  await browser.pass(SECOND);
  for (let n = 0; n < 5; n++) tracker.track(`large ${n}`, { text: 'é'.repeat(12_000) });
  await browser.pass(SECOND);
  assert.deepEqual(names(browser.sent).slice(3), [0, 1, 2, 3, 4].map((n) => `large ${n}`));
  assert.ok(browser.requests.length > 3);
  browser.requests.forEach(({ options }) => assert.ok(Buffer.byteLength(options.body) < 64 * 1024));
});

test('an event of over 32 KB is dropped with a warning, and the others go', async () => {
  const browser = new Browser();
  browser.loaded().track('huge', { text: 'x'.repeat(40_000) });
  browser.tracker.track('small');
  await browser.pass(SECOND);
  assert.deepEqual(names(browser.sent), ['small']);
  assert.match(browser.warnings[0], /32 KB.*huge/);
});

test('calls made before the script was there are carried out in their order, and push goes on working', async () => {
  const browser = new Browser({ early: [['load', { writeKey: 'key', host: 'https://other.example/' }], ['page'], ['track', 'early']] });
  browser.window.slipstream.push(['track', 'late']);
  await browser.pass(SECOND);
  assert.deepEqual(names(browser.sent), ['page', 'early', 'late']);
  assert.equal(browser.requests[0].url, 'https://other.example/v1/batch');
});

test('a page that is left sends the rest as a beacon of plain text', async () => {
  const browser = new Browser();
  browser.loaded().track('last words');
  browser.hide();
  await browser.pass(MINUTE);
  assert.deepEqual([browser.beacons.length, browser.requests.length], [1, 0]);
  assert.deepEqual([browser.beacons[0].url, browser.beacons[0].type], ['https://events.example/v1/batch', 'string']);
  assert.deepEqual([names(browser.beacons[0].batch), browser.beacons[0].writeKey], [['last words'], 'key']);
});

test('what a beacon does not take, the next page sends', async () => {
  const storage = new Storage();
  const browser = new Browser({ storage });
  browser.refusesBeacons = true;
  browser.loaded().track('last words');
  browser.hide();
  const next = new Browser({ storage });
  next.loaded();
  await next.pass(SECOND);
  assert.deepEqual(names(next.sent), ['last words']);
  assert.ok(!storage.entries.has('slipstream_queue'));
});

for (const status of [429, 503]) {
  test(`${status} is tried again after Retry-After, with the same message ids and times`, async () => {
    const browser = new Browser();
    browser.replies.push({ status, retryAfter: '20' });
    browser.loaded().track('a');
    await browser.pass(SECOND);
    browser.tracker.track('b');
    await browser.pass(18 * SECOND);
    assert.equal(browser.requests.length, 1);
    await browser.pass(3 * SECOND);
    assert.equal(browser.requests.length, 2);
    const [first, second] = browser.requests;
    assert.deepEqual(names(second.batch), ['a', 'b']);
    assert.deepEqual([second.batch[0].messageId, second.batch[0].timestamp], [first.batch[0].messageId, first.batch[0].timestamp]);
    assert.notEqual(second.sentAt, first.sentAt);
    await browser.pass(10 * MINUTE);
    assert.equal(browser.requests.length, 2);
  });
}

test('of a batch that was taken, events above the rate are sent again, and no others', async () => {
  const browser = new Browser();
  const results = [{ status: 'accepted' }, { status: 'rejected', code: 'rate_limited' }, { status: 'rejected', code: 'missing_item' }];
  browser.replies.push({ results });
  const tracker = browser.loaded();
  ['a', 'b', 'c'].forEach((name) => tracker.track(name));
  await browser.pass(10 * SECOND);
  assert.deepEqual(browser.requests.map((request) => names(request.batch)), [['a', 'b', 'c'], ['b']]);
  assert.equal(browser.sent[3].messageId, browser.sent[1].messageId);
});

test('without Retry-After pauses grow up to a minute', async () => {
  const browser = new Browser();
  browser.replies.push(...Array(12).fill({ status: 500 }));
  browser.loaded().track('a');
  const at = [];
  for (let s = 0; s < 600; s++) {
    await browser.pass(SECOND);
    while (at.length < browser.requests.length) at.push(s);
  }
  const pauses = at.slice(1).map((moment, index) => moment - at[index]);
  assert.ok(pauses[0] <= 2 && pauses[4] >= 7 && Math.max(...pauses) <= 61, String(pauses));
  assert.equal(new Set(ids(browser.sent)).size, 1);
  assert.equal(browser.requests.length, 13);
});

test('what can never be taken is not tried again', async () => {
  const browser = new Browser();
  browser.replies.push({ status: 401 });
  browser.loaded().track('a');
  await browser.pass(10 * MINUTE);
  assert.equal(browser.requests.length, 1);
  assert.match(browser.warnings[0], /401/);
});

test('offline, the newest events wait in storage, and go when the network is back or from the next page', async () => {
  const storage = new Storage();
  const browser = new Browser({ storage });
  browser.replies.push(...Array(20).fill({ unreachable: true }));
  browser.loaded({ maxQueue: 3 });
  for (const name of ['a', 'b', 'c', 'd', 'e']) browser.tracker.track(name);
  await browser.pass(5 * SECOND);
  assert.deepEqual(names(JSON.parse(storage.entries.get('slipstream_queue'))), ['c', 'd', 'e']);
  browser.replies.length = 0;
  const before = browser.requests.length;
  browser.tell('online');
  await browser.pass(SECOND);
  assert.deepEqual(names(browser.requests[before].batch), ['c', 'd', 'e']);
  assert.ok(!storage.entries.has('slipstream_queue'));
});

test('coming online does not cut short the pause of Retry-After', async () => {
  const browser = new Browser();
  browser.replies.push({ status: 429, retryAfter: '30' });
  browser.loaded().track('a');
  await browser.pass(SECOND);
  browser.tell('online');
  await browser.pass(10 * SECOND);
  assert.equal(browser.requests.length, 1);
  browser.hide(); // nor does leaving the page: the events are kept
  assert.deepEqual([browser.beacons.length, browser.storage.entries.has('slipstream_queue')], [0, true]);
});

test('a session lasts until 30 minutes without an event, over pages', async () => {
  const storage = new Storage();
  const browser = new Browser({ storage });
  browser.loaded().track('a');
  await browser.pass(29 * MINUTE);
  browser.tracker.track('b');
  await browser.pass(29 * MINUTE);
  const next = new Browser({ storage, now: browser.now });
  next.name = 'next-';
  next.loaded().track('c');
  await next.pass(31 * MINUTE);
  next.tracker.track('d');
  await next.pass(SECOND);
  const sessions = [...browser.sent, ...next.sent].map((event) => event.context.sessionId);
  assert.equal(new Set(sessions.slice(0, 3)).size, 1);
  assert.notEqual(sessions[3], sessions[0]);
  const visitors = [...browser.sent, ...next.sent].map((event) => event.anonymousId);
  assert.equal(new Set(visitors).size, 1);
  assert.equal(next.tracker.anonymousId(), visitors[0]);
});

test('where storage is blocked the visitor is kept in a cookie', async () => {
  const storage = new Storage();
  storage.blocked = true;
  const cookies = new Map();
  const browser = new Browser({ storage, cookies });
  browser.loaded().track('a');
  await browser.pass(SECOND);
  const next = new Browser({ storage, cookies });
  next.name = 'next-';
  next.loaded().track('b');
  await next.pass(SECOND);
  assert.equal(next.sent[0].anonymousId, browser.sent[0].anonymousId);
  next.tracker.reset();
  assert.deepEqual([...cookies.keys()], []);
});

test('identify names both the visitor and the user, and later events name the user', async () => {
  const browser = new Browser();
  browser.loaded().track('before');
  browser.tracker.identify('ada', { country: 'NZ' });
  browser.tracker.track('after');
  browser.tracker.alias('ada@example.org');
  await browser.pass(SECOND);
  const [before, identify, after, alias] = browser.sent;
  assert.deepEqual([identify.userId, identify.anonymousId, identify.traits.country], ['ada', before.anonymousId, 'NZ']);
  assert.deepEqual([after.userId, after.anonymousId], ['ada', before.anonymousId]);
  assert.deepEqual([alias.userId, alias.previousId], ['ada@example.org', 'ada']);
});

test('identify carries the token of the shop, and a page gets a warning of one that does not count', async () => {
  const browser = new Browser();
  browser.replies.push({ results: [{ status: 'accepted', unproven: 'expired' }, { status: 'accepted', unproven: 'no_token' }] });
  browser.loaded().identify('ada', {}, 'header.claims.signature');
  browser.tracker.track('after');
  await browser.pass(SECOND);
  const [identify, after] = browser.sent;
  assert.equal(identify.context.userToken, 'header.claims.signature');
  assert.ok(!('userToken' in after.context));
  assert.equal(browser.warnings.length, 1);
  assert.match(browser.warnings[0], /user token.*expired/);
});

test('the console says why an event was rejected, each reason once', async () => {
  const browser = new Browser();
  const bot = { status: 'rejected', code: 'bot', reason: 'the user agent is a bot\'s' };
  browser.replies.push({ results: [bot, { status: 'accepted' }, bot] });
  browser.loaded().page();
  browser.tracker.track('a');
  browser.tracker.page();
  await browser.pass(SECOND);
  assert.equal(browser.sent.length, 3);
  assert.deepEqual(browser.warnings.map(String), ['slipstream: ingestion rejected an event, bot: the user agent is a bot\'s']);
});

test('reset and another user begin another visitor', async () => {
  const browser = new Browser();
  browser.loaded().identify('ada');
  browser.tracker.reset();
  browser.tracker.track('anonymous again');
  browser.tracker.identify('bob');
  browser.tracker.identify('eve');
  await browser.pass(SECOND);
  const [ada, anonymous, bob, eve] = browser.sent;
  assert.ok(!anonymous.userId);
  assert.notEqual(anonymous.anonymousId, ada.anonymousId);
  assert.notEqual(anonymous.context.sessionId, ada.context.sessionId);
  assert.equal(bob.anonymousId, anonymous.anonymousId);
  assert.notEqual(eve.anonymousId, bob.anonymousId); // two users are never joined through one device
});

for (const [what, navigator] of [['Do Not Track', { doNotTrack: '1' }], ['Global Privacy Control', { globalPrivacyControl: true }]]) {
  test(`${what} is honoured: nothing is sent, nothing stored, and what was stored is gone`, async () => {
    const storage = new Storage();
    storage.setItem('slipstream_anonymous_id', 'from before');
    const browser = new Browser({ storage, navigator });
    browser.loaded().page();
    browser.tracker.identify('ada');
    browser.tracker.consent(true);
    browser.hide();
    await browser.pass(MINUTE);
    assert.deepEqual([browser.requests.length, browser.beacons.length, storage.entries.size], [0, 0, 0]);
    assert.equal(browser.tracker.anonymousId(), null);
    const deaf = new Browser({ navigator });
    deaf.loaded({ honourPrivacySignals: false }).page();
    await deaf.pass(MINUTE);
    assert.equal(deaf.sent.length, 1);
  });
}

test('with requireConsent nothing is stored or sent before consent, and then all of this page, at its time', async () => {
  const browser = new Browser();
  browser.loaded({ requireConsent: true }).page();
  browser.tracker.identify('ada');
  await browser.pass(5 * SECOND);
  browser.tell('pagehide');
  assert.deepEqual([browser.requests.length, browser.beacons.length, browser.storage.entries.size, browser.cookies.size], [0, 0, 0, 0]);
  browser.tracker.consent(true);
  await browser.pass(SECOND);
  assert.deepEqual(names(browser.sent), ['page', 'identify']);
  assert.equal(browser.sent[0].timestamp, '2026-01-01T00:00:00.000Z');
  const next = new Browser({ storage: browser.storage }); // the answer is remembered
  next.loaded({ requireConsent: true }).track('b');
  await next.pass(SECOND);
  assert.deepEqual(names(next.sent), ['b']);
});

test('consent(false) deletes ids and queue, is remembered, and can be taken back', async () => {
  const storage = new Storage();
  const browser = new Browser({ storage });
  browser.replies.push({ status: 503 });
  browser.loaded().track('a');
  await browser.pass(300);
  browser.tracker.track('b');
  browser.tracker.consent(false);
  browser.tracker.track('c');
  browser.hide();
  await browser.pass(10 * MINUTE);
  assert.deepEqual([...storage.entries], [['slipstream_consent', 'denied']]);
  assert.deepEqual([browser.requests.length, browser.beacons.length], [1, 0]);
  const next = new Browser({ storage });
  next.loaded().track('d');
  await next.pass(SECOND);
  assert.equal(next.requests.length, 0);
  next.tracker.consent(true);
  next.tracker.track('e');
  await next.pass(SECOND);
  assert.deepEqual(names(next.sent), ['e']);
});

test('a refusal in one tab counts in the others', async () => {
  const browser = new Browser();
  browser.loaded().track('a');
  browser.tell('storage', { key: 'slipstream_consent', newValue: 'denied' });
  await browser.pass(SECOND);
  assert.deepEqual([browser.requests.length, browser.storage.entries.size], [0, 0]);
});

test('an item shown by half for a second is an impression, once a page view', async () => {
  const browser = new Browser();
  browser.loaded();
  const slate = browser.add({ recommendation: 'slate-1', list: 'home' });
  const [kettle, teapot, cup, far] = ['kettle', 'teapot', 'cup', 'far'].map((item) => browser.add({ item }, slate));
  await browser.pass(200); // elements that came later are found
  assert.equal(browser.intersection.options.threshold, 0.5);
  browser.show(kettle, 0.5);
  browser.show(teapot, 0.4);
  browser.show(cup);
  await browser.pass(900);
  browser.show(cup, 0);
  await browser.pass(5 * SECOND);
  assert.deepEqual(names(browser.sent), ['Product List Viewed']);
  const told = (event) => JSON.parse(JSON.stringify(event.properties));
  const first = { product_id: 'kettle', recommendation_id: 'slate-1', list_id: 'home', position: 0 };
  assert.deepEqual(told(browser.sent[0]), { list_id: 'home', products: [first] });
  browser.show(kettle, 0);
  browser.show(kettle);
  browser.show(far);
  await browser.pass(5 * SECOND);
  assert.deepEqual(told(browser.sent[1]).products, [{ ...first, product_id: 'far', position: 3 }]);
  browser.tracker.page(); // another view of a page: what is in view is shown again
  await browser.pass(5 * SECOND);
  const again = browser.sent.slice(2).flatMap((event) => (event.properties.products || []).map((entry) => entry.product_id));
  assert.deepEqual(again, ['kettle', 'far']);
});

test('what matures together is one event, what an element says of its place counts, and leaving the page sends it', async () => {
  const browser = new Browser();
  browser.add({ item: 'a', recommendation: 'slate', position: '7' });
  browser.add({ item: 'b', recommendation: 'slate' });
  browser.loaded();
  browser.elements.forEach((element) => browser.show(element));
  await browser.pass(1050);
  browser.hide();
  const [event] = browser.beacons[0].batch;
  assert.deepEqual(event.properties.products.map((entry) => [entry.product_id, entry.position]), [['a', 7], ['b', 1]]);
});

test('nothing is shown in a hidden tab', async () => {
  const browser = new Browser();
  browser.add({ item: 'a' });
  browser.loaded();
  browser.show(browser.elements[0]);
  await browser.pass(500);
  browser.hide();
  await browser.pass(MINUTE);
  assert.equal(browser.beacons.length + browser.requests.length, 0);
});

test('an element that is used again for another item counts for that one', async () => {
  const browser = new Browser();
  const element = browser.add({ item: 'a' });
  browser.loaded();
  browser.show(element);
  await browser.pass(2 * SECOND);
  element.attributes['data-slipstream-item'] = 'b';
  browser.mutated([{ type: 'attributes', target: element }]);
  await browser.pass(2 * SECOND);
  assert.deepEqual(browser.sent.map((event) => event.properties.products[0].product_id), ['a', 'b']);
});

test('a click within an item is attributed to its recommendation', async () => {
  const browser = new Browser();
  const tile = browser.add({ item: 'kettle', recommendation: 'slate-1', position: '2' });
  browser.loaded();
  browser.tell('click', { target: browser.add({}, tile), button: 0 });
  assert.equal(browser.requests.length, 1); // at once: what is recommended next depends on it
  browser.tell('auxclick', { target: tile, button: 1 }); // into a new tab
  browser.tell('auxclick', { target: tile, button: 2 }); // the context menu
  browser.tell('click', { target: browser.add({}), button: 0 });
  await browser.pass(SECOND);
  assert.deepEqual(names(browser.sent), ['Product Clicked', 'Product Clicked']);
  const properties = JSON.parse(JSON.stringify(browser.sent[0].properties));
  assert.deepEqual(properties, { product_id: 'kettle', recommendation_id: 'slate-1', position: 2 });
});

test('with spa a change of address is a page view', async () => {
  const browser = new Browser();
  browser.loaded({ spa: true }).page();
  browser.window.history.pushState(null, '', '/teapots');
  await browser.pass(SECOND);
  browser.window.history.replaceState(null, '', '/teapots');
  browser.window.history.pushState(null, '', '/teapots#reviews');
  await browser.pass(SECOND);
  assert.deepEqual(browser.sent.map((event) => event.properties.path), ['/kettles', '/teapots']);
});

test('a fault of the tracker is not one of the page', () => {
  const browser = new Browser();
  const looped = {};
  looped.self = looped;
  browser.loaded().track('looped', looped);
  assert.match(browser.warnings[0], /circular/);
});

test('ids are UUIDs on pages that are not https, too', () => {
  const browser = new Browser({ secure: false });
  browser.loaded();
  assert.match(browser.tracker.anonymousId(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

// ---- lists of serving

const SERVING = { serving: 'https://recs.example/' };

test('recommend sends the anonymous id with the secret that proves it', async () => {
  const browser = new Browser({ storage: new Storage() });
  const tracker = browser.loaded(SERVING);
  const slate = { recommendation_id: 'r', items: [] };
  browser.replies.push({ list: slate });
  const given = [];
  const answer = await tracker.recommend({ n: 3, fields: ['title', 'price'] }, (found) => given.push(found));
  assert.deepEqual([answer, given], [slate, [slate]]);
  const [{ url, options }] = browser.requests;
  assert.equal(url, `https://recs.example/v1/recommendations/${tracker.anonymousId()}?n=3&fields=title&fields=price`);
  const { Authorization, 'X-Slipstream-Proof': proof } = options.headers;
  assert.deepEqual([Authorization, options.credentials], ['Bearer key', 'omit']);
  assert.equal(proof, browser.storage.getItem('slipstream_secret'));
  tracker.reset();
  assert.equal(browser.storage.getItem('slipstream_secret'), null);
});

test('recommend takes an item, and a user that a token proves', async () => {
  const browser = new Browser();
  const tracker = browser.loaded(SERVING);
  browser.replies.push({ list: {} });
  await tracker.recommend({ similarTo: 'a/b' });
  assert.equal(browser.requests[0].url, `https://recs.example/v1/similar/a%2Fb?user_id=${tracker.anonymousId()}&personal=true`);
  tracker.identify('ada');
  browser.replies.push({}, { list: {} }); // first goes what the list should know
  await tracker.recommend({ userToken: 'a.b.c' });
  const [, sent, asked] = browser.requests;
  assert.equal(sent.batch[0].userId, 'ada');
  assert.equal(asked.url, 'https://recs.example/v1/recommendations/ada?');
  assert.equal(asked.options.headers['X-Slipstream-Proof'], 'a.b.c');
});

test('where there is no list the page gets null and the console the reason', async () => {
  const browser = new Browser();
  const tracker = browser.loaded(SERVING);
  browser.replies.push({ status: 403, list: { detail: 'not yours' } }, { unreachable: true }, { status: 502 });
  for (const reason of ['status 403: not yours', 'Failed to fetch (see SLIPSTREAM_SERVING__CORS_ORIGINS)', 'no JSON']) {
    assert.equal(await tracker.recommend({}), null);
    assert.ok(browser.warnings.pop().includes(reason));
  }
});

test('without a consent or an address of serving no list is asked', async () => {
  for (const options of [{}, { ...SERVING, requireConsent: true }]) {
    const browser = new Browser({ storage: new Storage() });
    assert.equal(await browser.loaded(options).recommend({ n: 1 }), null);
    assert.deepEqual(browser.requests, []);
    assert.equal(browser.storage.getItem('slipstream_secret'), null);
  }
});

test('an id that no secret proves is replaced where lists are read', async () => {
  for (const [options, kept] of [[{}, true], [SERVING, false]]) {
    const storage = new Storage();
    storage.setItem('slipstream_anonymous_id', 'from before');
    const tracker = new Browser({ storage }).loaded(options);
    assert.equal(tracker.anonymousId() === 'from before', kept);
    assert.equal(new Browser({ storage }).loaded(options).anonymousId(), tracker.anonymousId());
  }
});
