/*! Slipstream's browser tracker: page views, events, impressions and clicks of recommendations. Apache-2.0. docs/tracker.md */
(function (window, document, navigator) {
  'use strict';
  const early = window.slipstream; // calls made before this script was there: a list of [method, ...arguments]
  if (early && early.load) return;

  const ITEM = 'data-slipstream-item';
  const MAX_BODY = 60000; // browsers refuse a keepalive request or a beacon of over 64 KB
  const MAX_EVENT = 32768; // ingestion rejects a larger one
  const script = document.currentScript;
  let config = null;
  let answer = null; // what the visitor said: 'granted', 'denied' or nothing
  let waiting = []; // what to do once the visitor has agreed; in memory only
  let queue = [];
  let sending = false;
  let timer = 0;
  let failures = 0;
  let unreachable = false;
  let notBefore = 0; // no request before this time: ingestion set it, or can't be reached

  // ---- what outlives the page: localStorage, else a cookie, else nothing does

  const memory = {};
  const key = (name) => 'slipstream_' + name;

  function cookie(name, value, age) {
    const domain = config.cookieDomain ? '; domain=' + config.cookieDomain : '';
    const secure = window.location.protocol === 'https:' ? '; secure' : '';
    const text = encodeURIComponent(value);
    document.cookie = key(name) + '=' + text + '; path=/; max-age=' + age + '; samesite=lax' + domain + secure;
  }

  function read(name) {
    try {
      const value = window.localStorage.getItem(key(name));
      if (value !== null) return value;
    } catch (e) { /* blocked */ }
    const found = ('; ' + document.cookie).split('; ' + key(name) + '=')[1];
    return found ? decodeURIComponent(found.split(';')[0]) : memory[name] || null;
  }

  function write(name, value) {
    try {
      window.localStorage.setItem(key(name), value);
    } catch (e) {
      memory[name] = value;
      cookie(name, value, 31536000);
    }
  }

  function erase(names) {
    names.forEach((name) => {
      delete memory[name];
      try { window.localStorage.removeItem(key(name)); } catch (e) { /* blocked */ }
      if (document.cookie.indexOf(key(name) + '=') >= 0) cookie(name, '', 0);
    });
  }

  // ---- who: the visitor, the session, and what the visitor agreed to

  function uuid() {
    if (window.crypto.randomUUID) return window.crypto.randomUUID(); // only where pages are https
    const random = (digit) => digit ^ (window.crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)));
    return '10000000-1000-4000-8000-100000000000'.replace(/[018]/g, (digit) => random(Number(digit)).toString(16));
  }

  /** The anonymous id of a secret: its SHA-256 (FIPS 180-4) as a UUID. The browser's own hash makes callers wait, and is there on https pages only. */
  function idOf(secret) {
    const turned = (x, n) => (x >>> n) | (x << (32 - n));
    const fraction = (x) => ((x - Math.floor(x)) * 4294967296) | 0;
    const text = 'slipstream visitor ' + secret + '\x80'; // 55 characters and the mark of their end: one block
    const words = Array.from({ length: 15 }, (_, i) => [0, 1, 2, 3].reduce((word, at) => (word << 8) | text.charCodeAt(4 * i + at), 0)).concat(440);
    const cubes = [];
    const begin = [];
    for (let n = 2; cubes.length < 64; n++) { // of the first primes
      let divisor = 2;
      while (n % divisor) divisor++;
      if (divisor < n) continue;
      cubes.push(fraction(Math.cbrt(n)));
      begin.push(fraction(Math.sqrt(n)));
    }
    let [a, b, c, d, e, f, g, h] = begin;
    for (let i = 0; i < 64; i++) {
      if (i > 15) {
        const [x, y] = [words[i - 15], words[i - 2]];
        const [of_x, of_y] = [turned(x, 7) ^ turned(x, 18) ^ (x >>> 3), turned(y, 17) ^ turned(y, 19) ^ (y >>> 10)];
        words[i] = (words[i - 16] + of_x + words[i - 7] + of_y) | 0;
      }
      const first = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + cubes[i] + words[i]) | 0;
      const second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    const digits = [a, b, c, d].map((x, i) => ((x + begin[i]) >>> 0).toString(16).padStart(8, '0')).join('');
    const variant = '89ab'[parseInt(digits[16], 16) & 3];
    return [digits.slice(0, 8), digits.slice(8, 12), '4' + digits.slice(13, 16), variant + digits.slice(17, 20), digits.slice(20)].join('-');
  }

  function anonymousId() {
    const known = read('anonymous_id');
    if (known) return known;
    const secret = uuid();
    write('secret', secret);
    write('anonymous_id', idOf(secret));
    return read('anonymous_id');
  }

  /** A visitor with an id of before there were secrets, or of another library, begins again where lists are read. */
  function beProvable() {
    const known = read('anonymous_id');
    if (config.serving && known && known !== idOf(read('secret'))) erase(['anonymous_id', 'secret', 'session']);
  }

  function sessionId(now) {
    const stored = (read('session') || '').split('/');
    const id = stored[1] && now - Number(stored[0]) < config.sessionTimeout ? stored[1] : uuid();
    write('session', Math.max(now, stored[1] === id ? Number(stored[0]) : 0) + '/' + id);
    return id;
  }

  const forgetVisitor = () => erase(['anonymous_id', 'secret', 'user_id', 'session']);

  /** Do Not Track, or Global Privacy Control. */
  function objects() {
    const asked = [navigator.doNotTrack, window.doNotTrack].some((value) => value === '1' || value === 'yes');
    return config.honourPrivacySignals && (asked || navigator.globalPrivacyControl);
  }

  /** 'no': drop everything. 'wait': keep it in memory, store and send nothing. 'yes'. */
  function permission() {
    if (!config) return 'wait';
    if (objects() || answer === 'denied') return 'no';
    return answer === 'granted' || !config.requireConsent ? 'yes' : 'wait';
  }

  function perform(action) {
    const may = permission();
    if (may === 'yes') action();
    else if (may === 'wait' && waiting.length < 500) waiting.push(action);
  }

  function settle() {
    const may = permission();
    if (may === 'yes') {
      beProvable();
      waiting.splice(0).forEach((action) => action());
      flush(); // what an earlier page could not send
    } else if (may === 'no') {
      waiting = [];
      queue = [];
      unsent = [];
      forgetVisitor();
      erase(['queue']);
    }
  }

  function consent(given) {
    answer = given ? 'granted' : 'denied';
    if (!config) return; // load() comes back to it
    settle();
    if (!objects()) write('consent', answer); // identifies no one, so that a refusal can be remembered, too
  }

  // ---- what: events in the shape of Segment's tracking API

  function page(name, properties) {
    sendImpressions();
    if (typeof name === 'object') [name, properties] = [undefined, name];
    record('page', { name, properties: Object.assign(where(), properties) });
    shown.clear();
    look(true);
  }

  const track = (event, properties) => record('track', { event, properties: properties || {} });

  /** `userToken`, signed by the shop's server, proves that this visitor is the user. */
  function identify(userId, traits, userToken) {
    if (userId && typeof userId === 'object') [userId, traits] = [undefined, userId];
    record('identify', { userId: userId === undefined || userId === null ? undefined : String(userId), traits: traits || {} }, { userToken });
  }

  function alias(userId, previousId) {
    if (userId) record('alias', { userId: String(userId), previousId });
  }

  function where() {
    const at = window.location;
    return { url: at.href.split('#')[0], path: at.pathname, search: at.search, title: document.title, referrer: document.referrer };
  }

  function record(type, fields, more) {
    const context = Object.assign({ page: where(), locale: navigator.language, library: { name: 'slipstream.js', version: api.version } }, more);
    const event = Object.assign({ type, messageId: uuid(), timestamp: new Date().toISOString(), context }, fields);
    perform(() => admit(event));
  }

  function admit(event) {
    const user = read('user_id');
    if (event.type === 'identify' && event.userId) {
      if (user && user !== event.userId) forgetVisitor(); // somebody else: not the same visitor's history
      write('user_id', event.userId);
    }
    event.anonymousId = anonymousId();
    event.context.sessionId = sessionId(Date.parse(event.timestamp));
    if (event.type === 'alias') event.previousId = event.previousId || user || event.anonymousId;
    else event.userId = event.userId || user || undefined;
    if (size(event) > MAX_EVENT) return warn('an event of over 32 KB was dropped: ' + (event.event || event.type));
    queue = queue.concat(event).slice(-config.maxQueue);
    if (queue.length >= config.flushAt) flush();
    else schedule(config.flushInterval);
  }

  // ---- sending: one request at a time, so that a visitor's events stay in order

  const size = (value) => new window.TextEncoder().encode(JSON.stringify(value)).length;
  const warn = (text) => window.console && window.console.warn('slipstream: ' + text);
  const url = () => config.host + '/v1/batch';
  const body = (batch) => JSON.stringify({ batch, sentAt: new Date().toISOString(), writeKey: config.writeKey });

  function schedule(ms) {
    if (timer) return;
    timer = window.setTimeout(() => {
      timer = 0;
      flush();
    }, ms);
  }

  /** The next events that fit into one body, taken from the queue. */
  function take() {
    let bytes = 200;
    let count = 0;
    while (count < queue.length && (bytes += size(queue[count]) + 1) <= MAX_BODY) count++;
    return queue.splice(0, Math.max(count, 1));
  }

  function flush() {
    if (sending || permission() !== 'yes') return;
    const wait = notBefore - Date.now();
    if (wait > 0) return schedule(wait);
    queue = stored().concat(queue);
    erase(['queue']);
    if (!queue.length) return;
    const batch = take();
    sending = true;
    // text/plain, as a beacon's: another type would cost each request a second one to ask for permission (CORS).
    const headers = { 'Content-Type': 'text/plain' };
    window
      .fetch(url(), { method: 'POST', body: body(batch), headers, keepalive: true, credentials: 'omit' })
      .then((response) => {
        const verdicts = response.json().then((told) => told.results, () => null);
        return verdicts.then((results) => answered(batch, response.status, response.headers.get('Retry-After'), results));
      }, () => answered(batch, 0));
  }

  function answered(batch, status, retryAfter, results) {
    sending = false;
    unreachable = status === 0;
    if (permission() !== 'yes') return;
    const all = status === 0 || status === 408 || status === 429 || status >= 500;
    // In a batch that was taken, events above the visitor's rate are turned away alone.
    const again = all ? batch : batch.filter((_, index) => results && results[index] && results[index].code === 'rate_limited');
    if (again.length) {
      const asked = Number(retryAfter) * 1000 || Date.parse(retryAfter) - Date.now() || 0;
      const backoff = Math.min(1000 * Math.pow(2, failures++), 60000) * (0.5 + Math.random() / 2);
      notBefore = Date.now() + Math.min(Math.max(asked, backoff), 3600000);
      queue = again.concat(queue); // the same events under the same message ids
      save();
      return schedule(notBefore - Date.now());
    }
    const reasons = (results || []).filter((result) => result.status === 'rejected').map((result) => result.code + ': ' + result.reason);
    new Set(reasons).forEach((reason) => warn('ingestion rejected an event, ' + reason));
    (results || []).forEach((result) => {
      if (result.unproven && result.unproven !== 'no_token') warn('the user token does not count: ' + result.unproven);
    });
    if (status >= 400) warn('ingestion refused ' + batch.length + ' events with status ' + status);
    failures = notBefore = 0;
    if (queue.length) schedule(0);
  }

  function stored() {
    try { return JSON.parse(window.localStorage.getItem(key('queue'))) || []; } catch (e) { return []; }
  }

  /** From memory into storage, where this page, another tab or the next page finds them: an event is in one place only. */
  function save() {
    if (!queue.length) return;
    try {
      window.localStorage.setItem(key('queue'), JSON.stringify(stored().concat(queue).slice(-config.maxQueue)));
      queue = [];
    } catch (e) { /* no storage: they stay in memory */ }
  }

  function leave() {
    sendImpressions();
    if (!config || permission() !== 'yes') return;
    while (queue.length && Date.now() >= notBefore) {
      const batch = take();
      if (navigator.sendBeacon && navigator.sendBeacon(url(), body(batch))) continue;
      queue = batch.concat(queue);
      break;
    }
    save();
  }

  // ---- lists of serving

  /**
   * A promise of a list for this visitor, as serving answers; of null where there is none.
   * `options` are parameters of the request, and `similarTo` or `userToken`. `callback` gets the same, for calls by push.
   */
  function recommend(options, callback) {
    const ready = config && config.serving && permission() === 'yes';
    return (ready ? list(Object.assign({}, options)) : Promise.resolve(null)).then((answer) => {
      if (callback) callback(answer);
      return answer;
    });
  }

  function list(options) {
    flush(); // the list should know what the visitor did last
    const who = options.userToken ? read('user_id') : anonymousId();
    const headers = { Authorization: 'Bearer ' + config.writeKey, 'X-Slipstream-Proof': options.userToken || read('secret') };
    const item = options.similarTo;
    const query = new window.URLSearchParams();
    delete options.userToken;
    delete options.similarTo;
    if (item !== undefined) Object.assign(options, { user_id: who, personal: true });
    Object.keys(options).forEach((name) => [].concat(options[name]).forEach((value) => query.append(name, value)));
    const path = item === undefined ? 'recommendations/' + encodeURIComponent(who) : 'similar/' + encodeURIComponent(item);
    return window
      .fetch(config.serving + '/v1/' + path + '?' + query, { headers, credentials: 'omit' })
      .then((response) => response.json().then((body) => {
        if (!response.ok) throw 'status ' + response.status + ': ' + body.detail;
        return body;
      }))
      .catch((error) => {
        warn('serving gave no list: ' + error + (error.name === 'TypeError' ? ' (see SLIPSTREAM_SERVING__CORS_ORIGINS)' : ''));
        return null;
      });
  }

  // ---- impressions and clicks of elements with data-slipstream-item

  const shown = new Set(); // in this page view
  const ripening = new Map(); // element → timer
  let unsent = [];
  let observer = null;
  let looking = 0;

  function told(element, name) {
    const holder = element.closest('[data-slipstream-' + name + ']');
    return holder ? holder.getAttribute('data-slipstream-' + name) : undefined;
  }

  const elements = () => Array.from(document.querySelectorAll('[' + ITEM + ']'));

  function product(element) {
    const [slate, list] = ['recommendation', 'list'].map((name) => told(element, name));
    const place = element.getAttribute('data-slipstream-position');
    const sameList = (other) => told(other, 'recommendation') === slate && told(other, 'list') === list;
    return {
      product_id: element.getAttribute(ITEM),
      recommendation_id: slate,
      list_id: list,
      position: place === null ? elements().filter(sameList).indexOf(element) : Number(place),
    };
  }

  function seen(element) {
    ripening.delete(element);
    if (document.visibilityState === 'hidden' || !element.isConnected) return;
    const found = product(element);
    const once = [found.product_id, found.recommendation_id, found.list_id].join('\n');
    if (shown.has(once)) return;
    shown.add(once);
    if (unsent.push(found) === 1) window.setTimeout(sendImpressions, config.flushInterval);
  }

  function sendImpressions() {
    const lists = new Map();
    unsent.splice(0).forEach((found) => lists.set(found.list_id, (lists.get(found.list_id) || []).concat(found)));
    lists.forEach((products, list_id) => {
      while (products.length) track('Product List Viewed', { list_id, products: products.splice(0, 100) });
    });
  }

  function leftView(element) {
    window.clearTimeout(ripening.get(element));
    ripening.delete(element);
  }

  /** Observe what is there; `afresh`: also judge again what is in view already. */
  function look(afresh) {
    if (!observer) return;
    if (afresh) {
      observer.disconnect();
      ripening.forEach((_, element) => leftView(element));
    }
    elements().forEach((element) => observer.observe(element));
  }

  function watch() {
    observer = new window.IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting || entry.intersectionRatio < 0.5) leftView(entry.target);
      else if (!ripening.has(entry.target)) ripening.set(entry.target, window.setTimeout(seen, 1000, entry.target));
    }), { threshold: 0.5 });
    look();
    new window.MutationObserver((changes) => {
      changes.filter((change) => change.type === 'attributes').forEach((change) => {
        leftView(change.target);
        observer.unobserve(change.target);
      });
      looking = looking || window.setTimeout(() => { looking = 0; look(); }, 100);
    }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: [ITEM] });
  }

  function clicked(event) {
    const element = event.target.closest && event.target.closest('[' + ITEM + ']');
    if (!element || (event.type === 'auxclick' && event.button !== 1)) return;
    track('Product Clicked', product(element));
    flush(); // the next recommendations should know of it
  }

  // ---- beginning

  function followHistory() {
    let last = window.location.pathname + window.location.search;
    const moved = () => window.setTimeout(() => { // once the page has set its title
      const now = window.location.pathname + window.location.search;
      if (now !== last) api.page();
      last = now;
    }, 0);
    ['pushState', 'replaceState'].forEach((name) => {
      const original = window.history[name];
      window.history[name] = function () {
        original.apply(this, arguments);
        moved();
      };
    });
    window.addEventListener('popstate', moved);
  }

  function load(options) {
    if (config) return;
    const defaults = { flushAt: 20, flushInterval: 250, maxQueue: 200, sessionTimeout: 1800000, honourPrivacySignals: true };
    config = Object.assign(defaults, { host: script ? new window.URL(script.src).origin : '' }, options);
    ['host', 'serving'].forEach((name) => { config[name] = (config[name] || '').replace(/\/$/, ''); });
    const given = answer;
    answer = answer || read('consent');
    if (given) consent(given === 'granted');
    else settle();
    if (config.impressions !== false && window.IntersectionObserver) watch();
    if (config.clicks !== false) ['click', 'auxclick'].forEach((name) => document.addEventListener(name, guarded(clicked), true));
    if (config.spa) followHistory();
    window.addEventListener('pagehide', guarded(leave));
    window.addEventListener('online', guarded(() => {
      if (unreachable) notBefore = 0;
      flush();
    }));
    window.addEventListener('storage', guarded((event) => { // another tab was answered
      if (event.key !== key('consent') || !event.newValue) return;
      answer = event.newValue;
      settle();
    }));
    document.addEventListener('visibilitychange', guarded(() => {
      if (document.visibilityState === 'hidden') leave();
      look(true);
    }));
  }

  /** A fault of the tracker must not become a fault of the page. */
  function guarded(method) {
    return function () {
      try { return method.apply(null, arguments); } catch (e) { warn(e); }
    };
  }

  const api = { load, page, track, identify, alias, recommend, consent, flush };
  api.reset = () => perform(forgetVisitor);
  api.anonymousId = () => (permission() === 'yes' ? anonymousId() : null);
  api.userId = () => (permission() === 'yes' ? read('user_id') : null);
  api.sessionId = () => (permission() === 'yes' ? sessionId(Date.now()) : null);
  api.push = (...calls) => calls.forEach((call) => api[call[0]].apply(null, Array.from(call).slice(1)));
  Object.keys(api).forEach((name) => { api[name] = guarded(api[name]); });
  api.version = '1';
  window.slipstream = api;
  api.push.apply(null, Array.isArray(early) ? early : []);
})(window, document, navigator);
